-- Wake jobs that wait for the end of an outage: one for a probe, and all once it is over.
-- Answers how many were woken, and the time after which to look again (us); -1: no job waits.

local LOOKED_AT = 500  -- jobs at a time, many of which may have ended since: a few milliseconds

local us = microseconds(time_us)  -- `now`, in ms, is the server's, whatever time a test brings
local longest = math.max(RARE * beat, hold_gap)

local waiting = redis.call('ZCARD', waiting_jobs)
if waiting == 0 then
  redis.call('HDEL', places, place)
  return {0, -1}
end

local function wake(id)
  redis.call('ZREM', waiting_jobs, id)
  local fields = redis.call('HMGET', JOB .. id, 'state', 'queue')
  if fields[1] ~= 'snoozed' then return false end
  return wake_at(id, fields[2], now) <= now
end

local api_breaker = read_breaker(of_api, us, longest, probe_timeout)
local host = read_breaker(of_host, us, longest, probe_timeout)
local hold = read_breaker(of_app, us, longest, probe_timeout)
local open, wait = gate(us, api_breaker, host, hold)
local woken = 0

if #open == 0 then
  for _, id in ipairs(redis.call('ZRANGE', waiting_jobs, 0, LOOKED_AT - 1)) do
    if wake(id) then woken = woken + 1 end
    if woken == most then break end
  end
  return {woken, math.floor(beat / (woken == 0 and 100 or 4))}
end

-- A job woken for a probe has this long to come; then another one is.
local widest = open[1]
local coming = 2 * beat
if wait == 0 and (us - widest.called > coming or widest.called > us) then
  -- In turn, so that a job that causes the failure does not block all others.
  local unread = math.max(0, waiting - LOOKED_AT)
  while woken == 0 and waiting > unread do
    local turn = widest.level % waiting
    if wake(redis.call('ZRANGE', waiting_jobs, turn, turn)[1]) then woken = 1 end
    waiting = waiting - 1
  end
  if woken == 0 then return {0, math.floor(beat / 100)} end
  redis.call('HSET', widest.key, 'called', us)
end
return {woken, math.ceil(math.max(beat / 10, math.min(wait, beat)))}
