-- A record without its payload, which may be a megabyte: readers of a job's state do not need it.
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
