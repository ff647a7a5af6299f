-- Cancel a job that does not run; mark one that does.
-- Answers the state after, newer if this release does not know how to, or nil if there is no such job.
local fields = redis.call('HMGET', record, 'state', 'queue', 'batch_key', 'bare')
local state, queue, batch_key, bare = fields[1], fields[2], fields[3], fields[4]
if not state then return nil end
if newer(record) then return 'newer' end
if state == 'running' then
  redis.call('HSET', record, 'cancel', lost == '' and 'withdrawn' or 1)
  return state
end
if not waits(state) then return state end

take_out(job, queue)
if batch_key then redis.call('ZREM', batch_key, job) end
return end_cancelled(record, job, bare, dead, ttl, dead_ttl, lost)
