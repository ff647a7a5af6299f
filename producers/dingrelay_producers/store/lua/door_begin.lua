-- The name under which equal changes at the drop-in door are one job.
-- KEYS: entry, the latest change of its caller
-- ARGV: digest of the change, a new name, ttl (ms), the name that is over; '' for none
-- Answers the name that holds; 1 if it is an earlier request's and its caller has changed something else since; the
-- time (s).
-- The name of a change that was answered is marked, and over once something else was changed.
local entry, latest = KEYS[1], KEYS[2]
local digest, fresh, ttl, over = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = redis.call('TIME')[1]
local found = redis.call('GET', entry)
local answered = found and found:sub(1, 1) == '!'
local name = answered and found:sub(2) or found
local passed = redis.call('GET', latest) ~= digest
redis.call('SET', latest, digest, 'PX', ttl)
if name and name ~= over and not (answered and passed) then return {name, passed and 1 or 0, now} end
redis.call('SET', entry, fresh, 'PX', ttl)
return {fresh, 0, now}
