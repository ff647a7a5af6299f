-- Forget a dead or unknown job for good.
-- KEYS: record, dead, recent
-- ARGV: id
-- Answers 1 if it was there, else 0.
local state = redis.call('HGET', KEYS[1], 'state')
redis.call('ZREM', KEYS[2], ARGV[1])
if state ~= 'dead' and state ~= 'unknown' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
