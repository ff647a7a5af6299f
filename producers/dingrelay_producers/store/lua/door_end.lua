-- A name of requests at the drop-in door lives on for so long, or is given back.
-- KEYS: entry
-- ARGV: name, ttl (ms; 0 gives it back)
-- Answers 1, or 0 if the entry is another name's by now.
local entry, name, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
if redis.call('GET', entry) ~= name then return 0 end
if ttl == 0 then
  redis.call('DEL', entry)
else
  redis.call('PEXPIRE', entry, ttl)
end
return 1
