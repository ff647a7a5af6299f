-- running → an end.
-- KEYS: record, schedule, dead
-- ARGV: id, owner, fence, state, attempts spent, throttles met, result (JSON or ''),
--       error (JSON or ''), answered (1: no call is open any more), ttl, ttl of the dead (ms),
--       then step and outcome of each finished step
-- Answers 1, or 0 if the job is no longer this owner's. Saying the same twice is fine: the first
-- answer may have been lost.
local record, id, owner, fence, state = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HMGET', record, 'state', 'owner', 'fence')
if known[2] ~= owner or known[3] ~= fence then return 0 end
if known[1] == state then return 1 end
if known[1] ~= 'running' then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

redis.call('HSET', record, 'state', state, 'settled', now)
redis.call('HINCRBY', record, 'attempts', ARGV[5])
redis.call('HINCRBY', record, 'throttles', ARGV[6])
if ARGV[7] ~= '' then redis.call('HSET', record, 'result', ARGV[7]) end
if ARGV[8] ~= '' then
  redis.call('HSET', record, 'error', ARGV[8])
else
  -- Whatever a job reserved that is done was sent.
  redis.call('HDEL', record, 'error', state == 'done' and 'reserved' or 'error')
end
for index = 12, #ARGV, 2 do
  redis.call('HSET', record, 'step:' .. ARGV[index], ARGV[index + 1])
end
if ARGV[9] == '1' then redis.call('HDEL', record, 'calling') end
if state ~= 'done' and state ~= 'unknown' then give_back(record, id) end
redis.call('ZREM', KEYS[2], id)
if state == 'dead' or state == 'unknown' then
  redis.call('ZADD', KEYS[3], now, id)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[11]))
  redis.call('PEXPIRE', KEYS[3], ARGV[11])
  redis.call('PEXPIRE', record, ARGV[11])
else
  redis.call('PEXPIRE', record, ARGV[10])
end
return 1
