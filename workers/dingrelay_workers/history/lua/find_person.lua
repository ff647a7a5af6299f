-- Finds records that hold a text, wherever in them. Read-only, and for a few dozen records at a time:
-- it blocks Redis.
-- KEYS: records
-- ARGV: number of texts, the texts, and then those that count only in the fields of an event
-- Returns the keys of the records found.
local names, found = tonumber(ARGV[1]), {}

local function has_one(value, first, last)
  for index = first, last do
    if string.find(value, ARGV[index], 1, true) then return true end
  end
  return false
end

for _, record in ipairs(KEYS) do
  local matches = false
  for _, value in ipairs(redis.call('HVALS', record)) do
    matches = matches or has_one(value, 2, names + 1)
  end
  if not matches and #ARGV > names + 1 then
    local known = redis.call('HMGET', record, 'kind', 'payload')
    matches = known[1] == 'event' and known[2] and has_one(known[2], names + 2, #ARGV)
  end
  if matches then found[#found + 1] = record end
end
return found
