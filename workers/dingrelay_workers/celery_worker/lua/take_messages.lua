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
for index, queue in ipairs(queues) do
  local lists = {}
  for priority = 1, 9 do lists[priority] = queue .. separator .. priority end
  if redis.call('EXISTS', unpack(lists)) > 0 then
    for _, list in ipairs(lists) do
      for message = 1, gathered do
        local moved = redis.pcall('LMOVE', list, queue, 'RIGHT', 'LEFT')
        -- A Redis that is full refuses where nothing was popped.
        if not moved or type(moved) == 'table' then break end
        if message == 1 then table.insert(answer[1], list) end
      end
    end
    take(index, queue)
  end
end
return answer
