-- End a job that is open in a Redis restored from a backup: the history has its end, which came after
-- the backup. No notice is sent again.
-- Answers 1 if it was open.
local known = redis.call('HMGET', record, 'state', 'queue', 'batch_key', 'bare')
if not (waits(known[1]) or known[1] == 'running') then return 0 end

redis.call('HSET', record, 'state', state, 'settled', settled)
redis.call('HDEL', record, 'owner', 'lease', 'intent', 'cancel')
take_out(job, known[2])
if known[3] then redis.call('ZREM', known[3], job) end
keep_ended(record, job, state, settled, known[4], dead, ttl, dead_ttl)
return 1
