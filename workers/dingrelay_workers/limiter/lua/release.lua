-- Give back what admit.lua reserved for users that did not get the message.
--
-- KEYS  who gets this content today (userid -> job), notifications of the day (userid -> count)
-- ARGV  1 job, then userids
--
-- Returns how many reservations there were. Those of other jobs stay.

local released = 0

for i = 2, #ARGV do
  local user = ARGV[i]
  if redis.call('HGET', KEYS[1], user) == ARGV[1] then
    forget(KEYS[1], KEYS[2], user)
    released = released + 1
  end
end

return released
