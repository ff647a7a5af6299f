-- A record without what it asks for: that may be a megabyte, and whoever looks at the state of a
-- job has no need of it.
-- KEYS: record
-- Answers names and values in turn; nothing if there is no such job.
local record = KEYS[1]
local names = {}
for _, name in ipairs(redis.call('HKEYS', record)) do
  if name ~= 'payload' then names[#names + 1] = name end
end
local answer = {}
add_fields(answer, record, names)
return answer
