-- Have the scheduler wake jobs now: those that wait for something else, or whose wake-ups the broker did not take.
-- Answers how many. A job that was started or woken again since stays as it is, and so does one
-- that is due later, or pauses after a failure: what it waited for is looked at in its next attempt.
local woken = 0
for _, job in ipairs(jobs) do
  local state, queue, since = unpack(redis.call('HMGET', JOB .. job.id, 'state', 'queue', 'woken'))
  local untaken = job.woken and tonumber(since) == job.woken
  if waits(state) and (untaken or not job.woken and state == 'snoozed') then
    wake_at(job.id, queue, now)
    woken = woken + 1
  end
end
return woken
