-- running → an end.
-- Answers 1, or 0 if the job is no longer this owner's, or its approval another job's. Saying the same twice is fine: the first
-- answer may have been lost.
local current, queue, bare, spent, met, kind, app, sender, reserved, called = owned(record, owner, fence,
  'queue', 'bare', 'attempts', 'throttles', 'kind', 'app', 'sender', 'reserved', 'called')
if current == state then return 1 end
if current ~= 'running' then return 0 end
-- Redis may have forgotten since that the approval is this job's.
if approval_owner and claim_instance(approval_owner, job_approval, instance, job, since, approval_ttl, job_ttl) then
  return 0
end

local values = {'state', state, 'settled', now,
  'attempts', (spent or 0) + attempts, 'throttles', (met or 0) + throttles}
local over = {answered and 'intent' or nil}
if result then add(values, 'result', result) end
if error then
  add(values, 'error', error)
else
  over[#over + 1] = 'error'
end
add_steps(values, steps, called)
write(record, values)
-- Whatever a job reserved that is done was sent.
local sent = reserved and state == 'done'
if sent then over[#over + 1] = 'reserved' end
if #over > 0 then redis.call('HDEL', record, unpack(over)) end
if sent then
  local _, taken, received, users = parts(reserved)
  keep_sent(job, taken, received, users)
elseif reserved and state ~= 'unknown' then
  give_back(record, job)
end

add(leaving, job, queue)
finish = leave_running
keep_ended(record, job, state, now, bare, dead, ttl, dead_ttl)
publish_end(job, state, kind, app, sender)
return 1
