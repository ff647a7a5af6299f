-- Cancel a job that does not run; mark one that does.
-- KEYS: record
-- ARGV: id, ttl of a settled record (ms)
-- Answers the state after, or nil if there is no such job.
local record, id, ttl = KEYS[1], ARGV[1], ARGV[2]
local known = redis.call('HMGET', record, 'state', 'queue', 'shares', 'bare')
local state, queue, shares, bare = known[1], known[2], known[3], known[4]
if not state then return nil end
if state == 'running' then
  redis.call('HSET', record, 'cancel', 1)
  return state
end
if not waits(state) then return state end

redis.call('HSET', record, 'state', 'cancelled', 'settled', now)
redis.call('PEXPIRE', record, ttl)
bury(id, bare)
take_out(id, queue)
if shares then redis.call('ZREM', shares, id) end
give_back(record, id)
return 'cancelled'
