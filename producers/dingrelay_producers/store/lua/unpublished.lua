-- Put jobs whose wake-ups the broker did not take on the schedule, where the scheduler finds them at once. A job that
-- was started or woken again since stays as it is.
-- KEYS: woken:QUEUE
-- ARGV: id and when it was woken (ms), of each
local place = KEYS[1]
for index = 1, #ARGV, 2 do
  local id, woken = ARGV[index], tonumber(ARGV[index + 1])
  if tonumber(redis.call('ZSCORE', place, id) or nil) == woken then
    leave_place(place, id)
    place_until(id, now)
  end
end
