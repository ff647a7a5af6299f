-- Renew the leases of the jobs that a worker runs.
-- Answers the owners that own their job no longer.
local lease_end = now + lease
local lost = {}
for _, run in ipairs(runs) do
  local record = JOB .. run.job
  local state, queue = owned(record, run.owner, run.fence, 'queue')
  if state == 'running' then
    redis.call('HSET', record, 'lease', lease_end)
    -- It may have been woken since, for a worker that seemed to be gone.
    if not redis.call('ZSCORE', RUNNING, run.job) then take_out(run.job, queue) end
    place_running(run.job, lease_end)
  else
    table.insert(lost, run.owner)
  end
end
return lost
