-- running → snoozed | retrying | queued: the job waits on the schedule.
-- Answers the state after, or '' if the job is no longer this owner's.
local current, cancelled, batch_key, created, queue, bare, called =
  owned(record, owner, fence, 'cancel', 'batch_key', 'created', 'queue', 'bare', 'called')
if current ~= 'running' then return '' end

-- What a job waits for whose outage has this name: the widest of the breakers that stand open.
local function waits_for()
  local app, api, host = string.match(outage, '^(%S+) (%S+) (%S+)$')
  for _, candidate in ipairs({{'app', app, breaker_of_app}, {'host', host, breaker_of_host}, {'api', api, breaker_of_api}}) do
    if redis.call('HEXISTS', candidate[3], 'opened') == 1 then
      return cjson.encode({what = candidate[1], name = candidate[2], breaker = candidate[3]})
    end
  end
end

local values, cleared_fields = {}, {'owner', 'lease', 'crashes', 'losses', 'turn'}
local awaited = outage and waits_for()
if awaited then add(values, 'waits_for', awaited) else cleared_fields[#cleared_fields + 1] = 'waits_for' end
add_steps(values, steps, called)
if answered then cleared_fields[#cleared_fields + 1] = 'intent' end
if error then add(values, 'error', error) end
if throttles > 0 then redis.call('HINCRBY', record, 'throttles', throttles) end
-- A job that keeps failing ends by the time that it has waited for attempts: neither what it waits
-- for otherwise counts, nor what failed before an outage, which may have been its beginning.
if attempts > 0 then
  redis.call('HINCRBY', record, 'attempts', attempts)
  redis.call('HINCRBY', record, 'failed', attempts)
  redis.call('HINCRBY', record, 'retried', delay)
end
if outage then cleared_fields[#cleared_fields + 1], cleared_fields[#cleared_fields + 2] = 'retried', 'failed' end
if waiting then
  add(values, 'waiting', waiting)
else
  cleared_fields[#cleared_fields + 1] = 'waiting'
end
if alone then cleared_fields[#cleared_fields + 1], cleared_fields[#cleared_fields + 2] = 'batch_key', 'recipients' end
local due = now + delay
if latest then due = math.max(now, math.min(due, latest)) end
if not cancelled then
  add(values, 'state', state)
  add(values, 'due', due)
  add(values, 'woken', 0)
end
if cancelled or not lane then
  cleared_fields[#cleared_fields + 1] = 'parked'
else
  add(values, 'parked', parked)
  if not batch_key then add(values, 'recipients', recipients) end
end
write(record, values)
redis.call('HDEL', record, unpack(cleared_fields))
-- The runs of a job sent without a trace are one trace, from its first one on.
if trace then redis.call('HSETNX', record, 'trace', trace) end

if leave_place(RUNNING, job) == 0 then take_out(job, queue) end
if cancelled then
  if cancelled == 'withdrawn' then lost = '' end
  return end_cancelled(record, job, bare, dead, cancelled_ttl, dead_ttl, lost)
end
place_until(job, due)
if outage then
  -- Lane by lane, and in a lane as they came: so they are woken.
  redis.call('ZADD', waiting_for_it, rank * 10000000000000 + now, job)
  redis.call('PEXPIRE', waiting_for_it, outage_ttl)
  redis.call('HSET', outages, outage, now)
  redis.call('PEXPIRE', outages, outage_ttl)
end
if lane then
  redis.call('ZADD', parked, waiting, job)
  redis.call('ZADD', turns, 'NX', had, sender)
  redis.call('ZADD', lanes, now, lane)
  for _, key in ipairs({parked, turns, lanes}) do redis.call('PEXPIRE', key, batch_key_ttl) end
end
if batch_key and not alone and (waiting or state == 'queued') then
  redis.call('ZADD', batch_key, created, job)
  redis.call('PEXPIRE', batch_key, batch_key_ttl)
end
return state
