-- Have the scheduler wake jobs now: those that wait for something else, or whose wake-ups the broker did not take.
-- ARGV: for each job its id, and when it was woken (ms) for a wake-up that was not taken, or ''
-- Answers how many. A job that was started or woken again since stays as it is, and so does one that is due later.
local woken = 0
for index = 1, #ARGV, 2 do
  local id, at = ARGV[index], ARGV[index + 1]
  local state, queue, since = unpack(redis.call('HMGET', JOB .. id, 'state', 'queue', 'woken'))
  if waits(state) and (at == '' and state ~= 'queued' or at ~= '' and tonumber(since) == tonumber(at)) then
    wake_at(id, queue, now)
    woken = woken + 1
  end
end
return woken
