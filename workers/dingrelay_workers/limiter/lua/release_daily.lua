-- Give back what reserve_daily.lua reserved for users that did not get the message.
--
-- KEYS: who gets this content today (userid -> job), notifications of the day (userid -> count)
-- ARGV: 1 job, then userids
--
-- Answers how many reservations there were. Those of other jobs stay.

local taken, received, job = KEYS[1], KEYS[2], ARGV[1]
local released = 0

for i = 2, #ARGV do
  local user = ARGV[i]
  if redis.call('HGET', taken, user) == job then
    forget(taken, received, user)
    released = released + 1
  end
end

return released
