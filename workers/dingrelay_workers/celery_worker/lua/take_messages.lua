-- Takes messages from queues, those of the first queue first, and marks each that is no wake-up as taken.
-- KEYS: the registry, the marks of this worker, queues.
-- ARGV: how many at most, what each wake-up has in it, lease in ms, number of the first message, what a list of a
--       priority has after the name of its queue, how many messages of such a list are moved at most (0: none is
--       looked at), then pairs: a list to which a wait has moved a message, the tag to mark it with or '' for none.
-- Returns {{lists of priorities that held messages}, index of the queue, message, ...}.
-- Popping comes first: a Redis that is full lets only a script that has written go on writing.
local registry, marks = KEYS[1], KEYS[2]
local left, wakeup, lease, number = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local separator, most = ARGV[5], tonumber(ARGV[6])

local registered = false
local function mark(tag, message)
  redis.call('HSET', marks, tag, message)
  if registered then return end
  local time = redis.call('TIME')
  redis.call('ZADD', registry, time[1] * 1000 + math.floor(time[2] / 1000) + lease, marks)
  registered = true
end

for pair = 7, #ARGV, 2 do
  local message = redis.call('LPOP', ARGV[pair])
  if message and ARGV[pair + 1] ~= '' then mark(ARGV[pair + 1], message) end
end

local answer = {{}}
local function take(index)
  if left == 0 then return end
  for _, message in ipairs(redis.call('RPOP', KEYS[index], left) or {}) do
    if not string.find(message, wakeup, 1, true) then
      mark(string.format('%.0f:%s', number, KEYS[index]), message)
    end
    answer[#answer + 1] = index - 2
    answer[#answer + 1] = message
    number, left = number + 1, left - 1
  end
end
for index = 3, #KEYS do take(index) end
if most == 0 then return answer end

-- A message with a priority is the last of its queue, as one without.
local lists = {}
for index = 3, #KEYS do
  for priority = 1, 9 do lists[#lists + 1] = KEYS[index] .. separator .. priority end
end
if redis.call('EXISTS', unpack(lists)) == 0 then return answer end
for at, list in ipairs(lists) do
  local index = 3 + math.floor((at - 1) / 9)
  for message = 1, most do
    local moved = redis.pcall('LMOVE', list, KEYS[index], 'RIGHT', 'LEFT')
    -- A Redis that is full refuses where nothing was popped.
    if not moved or type(moved) == 'table' then break end
    if message == 1 then table.insert(answer[1], list) end
  end
  if at % 9 == 0 then take(index) end
end
return answer
