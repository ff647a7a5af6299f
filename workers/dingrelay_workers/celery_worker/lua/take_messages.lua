-- Takes messages from queues, those of the first queue first, and marks each that is no wake-up as taken.
-- KEYS: queues, then the list of this worker for each of them.
-- ARGV: how many at most, what each wake-up has in it, then pairs: a list, a message that needs its mark no longer.
-- Returns {index of the queue, message, ...}.
-- Popping comes first: a Redis that is full lets only a script that has written go on writing.
local count, left, wakeup = #KEYS / 2, tonumber(ARGV[1]), ARGV[2]
for each = 3, #ARGV, 2 do redis.call('LREM', ARGV[each], -1, ARGV[each + 1]) end
local found = {}
for index = 1, count do
  if left == 0 then break end
  for _, message in ipairs(redis.call('RPOP', KEYS[index], left) or {}) do
    if not string.find(message, wakeup, 1, true) then redis.call('LPUSH', KEYS[count + index], message) end
    found[#found + 1] = index
    found[#found + 1] = message
    left = left - 1
  end
end
return found
