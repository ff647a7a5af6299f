-- Let another name stand for the person who resolved a job, unless its record has changed since.
-- Answers 1 if it says so now, else 0.
if redis.call('HGET', record, 'resolved') ~= before then return 0 end
redis.call('HSET', record, 'resolved', after)
return 1
