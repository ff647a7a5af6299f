-- Give an ended job another life. What it did is kept: steps, and a call without an answer.
-- KEYS: record, schedule, dead
-- ARGV: id, margin (ms)
-- Answers the state before, or nil if there is no such job.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return nil end
if state ~= 'dead' and state ~= 'unknown' and state ~= 'cancelled' and state ~= 'expired' then
  return state
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HDEL', KEYS[1], 'error', 'settled', 'cancel', 'expires', 'crashes', 'waiting')
redis.call('HSET', KEYS[1],
  'state', 'queued', 'attempts', 0, 'throttles', 0, 'due', now, 'woken', 0)
redis.call('PEXPIREAT', KEYS[1], now + tonumber(ARGV[2]))
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return state
