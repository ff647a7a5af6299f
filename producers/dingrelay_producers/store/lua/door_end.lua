-- A name of changes at the drop-in door lives on for so long, or is given back.
-- KEYS: entry
-- ARGV: name, ttl (ms; 0 gives it back), 1 if the change is answered
-- Answers 1, or 0 if the entry is another name's by now.
local entry, name, ttl, answered = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local found = redis.call('GET', entry)
if found ~= name and found ~= '!' .. name then return 0 end
if ttl == 0 then
  redis.call('DEL', entry)
elseif answered then
  -- Its time begins with the first answer: else one that is asked for again and again would never be made again.
  if found == name then redis.call('SET', entry, '!' .. name, 'PX', ttl) end
else
  redis.call('PEXPIRE', entry, ttl)
end
return 1
