-- Let another name stand for the person who resolved a job, unless its record has changed since.
-- KEYS: record
-- ARGV: what it says of its resolution, what it is to say
-- Answers 1 if it says so now, else 0.
if redis.call('HGET', KEYS[1], 'resolved') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'resolved', ARGV[2])
return 1
