-- The name under which equal requests at the drop-in door are one job.
-- KEYS: entry
-- ARGV: a new name, ttl (ms), the name that is over; '' for none
-- Answers the name that holds: the one that is there, or else the new one.
local entry, fresh, ttl, over = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('GET', entry)
if found and found ~= over then return found end
redis.call('SET', entry, fresh, 'PX', ttl)
return fresh
