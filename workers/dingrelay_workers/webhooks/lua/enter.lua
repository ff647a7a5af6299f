-- Give a delivery one of its endpoint's places, or let it wait.
-- KEYS: as `gate.lua`
-- ARGV: delivery, how long it may have the place, most places, 1 if it must wait in any case,
--       ttl of who waits (times in ms)
-- Answers 1 if it may go, 0 if it waits, -1 if the endpoint is removed.
local id, lease, most, must_wait, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]
if redis.call('HEXISTS', gate, 'removed') == 1 then return -1 end
local free = room(most)
-- A worker that died in the midst of it has left the place to whoever runs it again.
local has = redis.call('ZSCORE', places, id)
if must_wait or not (has or free > 0) then
  redis.call('ZREM', places, id)
  redis.call('ZADD', waiting, 'NX', now, id)
  redis.call('PEXPIRE', waiting, ttl)
  return 0
end
redis.call('ZADD', places, now + lease, id)
redis.call('PEXPIRE', places, 2 * lease)
redis.call('ZREM', waiting, id)
return 1
