-- Cancel a job that does not run; mark one that does.
-- KEYS: record, dead
-- ARGV: id, ttl of a settled record, of an unknown one (ms), error of an unknown one (JSON;
--       empty: the campaign that withdraws it continues it)
-- Answers the state after, newer if this release does not know how to, or nil if there is no such job.
local record, dead = KEYS[1], KEYS[2]
local id, ttl, dead_ttl, lost = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HMGET', record, 'state', 'queue', 'batch_key', 'bare')
local state, queue, batch_key, bare = known[1], known[2], known[3], known[4]
if not state then return nil end
if newer(record) then return 'newer' end
if state == 'running' then
  redis.call('HSET', record, 'cancel', lost == '' and 'withdrawn' or 1)
  return state
end
if not waits(state) then return state end

take_out(id, queue)
if batch_key then redis.call('ZREM', batch_key, id) end
return end_cancelled(record, id, bare, dead, ttl, dead_ttl, lost)
