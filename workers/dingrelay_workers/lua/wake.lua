-- Have a waiting job looked at now.
-- KEYS: record, schedule
-- ARGV: id
-- Answers 1 if it waited.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'snoozed' and state ~= 'retrying' then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'due', now, 'woken', 0)
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
