-- running → an end.
-- KEYS: record, dead
-- ARGV: id, owner, fence, state, attempts spent, throttles met, result (JSON or ''),
--       error (JSON or ''), answered (1: no call is open any more), ttl, ttl of the dead (ms),
--       then step and outcome of each finished step
-- Answers 1, or 0 if the job is no longer this owner's. Saying the same twice is fine: the first
-- answer may have been lost.
local record, dead = KEYS[1], KEYS[2]
local id, owner, fence, state, attempts, throttles = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local result, error, answered, ttl, dead_ttl = ARGV[7], ARGV[8], ARGV[9] == '1', ARGV[10], ARGV[11]

local current = owned(record, owner, fence)
if current == state then return 1 end
if current ~= 'running' then return 0 end
local queue, bare = unpack(redis.call('HMGET', record, 'queue', 'bare'))

redis.call('HSET', record, 'state', state, 'settled', now)
redis.call('HINCRBY', record, 'attempts', attempts)
redis.call('HINCRBY', record, 'throttles', throttles)
if result ~= '' then redis.call('HSET', record, 'result', result) end
if error ~= '' then
  redis.call('HSET', record, 'error', error)
else
  -- Whatever a job reserved that is done was sent.
  redis.call('HDEL', record, 'error', state == 'done' and 'reserved' or 'error')
end
for index = 12, #ARGV, 2 do
  redis.call('HSET', record, 'step:' .. ARGV[index], ARGV[index + 1])
end
if answered then redis.call('HDEL', record, 'intent') end
if state ~= 'done' and state ~= 'unknown' then give_back(record, id) end
take_out(id, queue)
local kept = ttl
if state == 'dead' or state == 'unknown' then
  redis.call('ZADD', dead, now, id)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - tonumber(dead_ttl))
  redis.call('PEXPIRE', dead, dead_ttl)
  kept = dead_ttl
end
redis.call('PEXPIRE', record, kept)
bury(id, bare, kept)
tell_end(record, id, state)
return 1
