-- Give an ended job another life. What it did is kept: steps, and a call without an answer. So are
-- the time before which it must not run, and the one after which it need not, while they are ahead:
-- requeueing an expired job means that it is wanted all the same.
-- Answers the state before, newer if this release does not know how to, or nil if there is no such job.
local fields = redis.call('HMGET', record, 'state', 'not_before', 'expires', 'intent')
local state, not_before, expires, intent = fields[1], tonumber(fields[2]), fields[3], fields[4]
if not state then return nil end
if newer(record) then return 'newer' end
if state ~= 'dead' and state ~= 'unknown' and state ~= 'cancelled' and state ~= 'expired' then
  return state
end

redis.call('HDEL', record, 'error', 'settled', 'cancel', 'crashes', 'losses', 'waiting',
  'retried', 'failed', 'started', 'parked', 'turn')
if expires and tonumber(expires) <= now then redis.call('HDEL', record, 'expires') end
if intent then redis.call('HSET', record, 'requeued', 1) end
local due = math.max(now, not_before or 0)
redis.call('HSET', record,
  'state', 'queued', 'attempts', 0, 'throttles', 0, 'due', due, 'woken', 0)
place_until(job, due)
redis.call('ZREM', dead, job)
return state
