-- A record without what it asks for: that may be a megabyte, and whoever looks at the state of a
-- job has no need of it.
-- KEYS: record
-- Answers names and values in turn; nothing if there is no such job.
local record = KEYS[1]
local names = {}
for _, name in ipairs(redis.call('HKEYS', record)) do
  if name ~= 'payload' then names[#names + 1] = name end
end
if #names == 0 then return {} end
local answer = {}
for index, value in ipairs(redis.call('HMGET', record, unpack(names))) do
  answer[2 * index - 1], answer[2 * index] = names[index], value
end
return answer
