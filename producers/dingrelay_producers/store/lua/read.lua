-- A record without what it asks for: that may be a megabyte, and whoever looks at the state of a
-- job has no need of it.
-- KEYS: record
-- Answers names and values in turn; nothing if there is no such job.
local AT_ONCE = 1000  -- fields: Lua passes up to 8,000 values, and an event of many people has a step for each
local record = KEYS[1]
local names = {}
for _, name in ipairs(redis.call('HKEYS', record)) do
  if name ~= 'payload' then names[#names + 1] = name end
end
local answer = {}
for first = 1, #names, AT_ONCE do
  local some = {unpack(names, first, math.min(first + AT_ONCE - 1, #names))}
  for index, value in ipairs(redis.call('HMGET', record, unpack(some))) do
    answer[#answer + 1], answer[#answer + 2] = some[index], value
  end
end
return answer
