-- Finds records that hold a text, wherever in them; or one that counts only in the fields of an event. Read-only, and
-- for a few dozen records at a time: it blocks Redis.
-- Returns the keys of the records found.
local matching_records = {}

local function has_one(value, texts)
  for _, text in ipairs(texts) do
    if string.find(value, text, 1, true) then return true end
  end
  return false
end

for _, record in ipairs(records) do
  local matches = false
  for _, value in ipairs(redis.call('HVALS', record)) do
    matches = matches or has_one(value, names)
  end
  if not matches and instances[1] then
    local kind, payload = unpack(redis.call('HMGET', record, 'kind', 'payload'))
    matches = kind == 'event' and payload and has_one(payload, instances)
  end
  if matches then matching_records[#matching_records + 1] = record end
end
return matching_records
