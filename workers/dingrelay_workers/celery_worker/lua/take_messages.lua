-- Takes messages from queues, those of the first queue first, and marks each that is no wake-up as taken.
-- Returns {{lists of priorities that held messages}, index of the queue, message, ...}.
-- Popping comes first: a Redis that is full lets only a script that has written go on writing.
local registered = false
local function mark(tag, message)
  redis.call('HSET', marks, tag, message)
  if registered then return end
  redis.call('ZADD', registry, milliseconds() + lease, marks)
  registered = true
end

for _, moved in ipairs(landed) do
  local message = redis.call('LPOP', moved.list)
  if message and moved.tag ~= '' then mark(moved.tag, message) end
end

local answer = {{}}
local function take(index, queue)
  if room == 0 then return end
  for _, message in ipairs(redis.call('RPOP', queue, room) or {}) do
    if not string.find(message, wakeup, 1, true) then
      mark(string.format('%.0f:%s', number, queue), message)
    end
    answer[#answer + 1] = index
    answer[#answer + 1] = message
    number, room = number + 1, room - 1
  end
end
for index, queue in ipairs(queues) do take(index, queue) end
if gathered == 0 then return answer end

-- A message with a priority is the last of its queue, as one without.
local lists = {}
for _, queue in ipairs(queues) do
  for priority = 1, 9 do lists[#lists + 1] = queue .. separator .. priority end
end
if redis.call('EXISTS', unpack(lists)) == 0 then return answer end
for at, list in ipairs(lists) do
  local index = math.ceil(at / 9)
  for message = 1, gathered do
    local moved = redis.pcall('LMOVE', list, queues[index], 'RIGHT', 'LEFT')
    -- A Redis that is full refuses where nothing was popped.
    if not moved or type(moved) == 'table' then break end
    if message == 1 then table.insert(answer[1], list) end
  end
  if at % 9 == 0 then take(index, queues[index]) end
end
return answer
