-- Which records hold a text, wherever in them. Read-only, and for a few dozen records at a time: Redis
-- does nothing else meanwhile.
-- KEYS: records
-- ARGV: the text
-- Answers the keys of those that do.
local text, found = ARGV[1], {}
for _, record in ipairs(KEYS) do
  for _, value in ipairs(redis.call('HVALS', record)) do
    if string.find(value, text, 1, true) then
      found[#found + 1] = record
      break
    end
  end
end
return found
