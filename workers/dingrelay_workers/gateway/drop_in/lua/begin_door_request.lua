-- The name under which equal changes at the drop-in door are one job: the one that holds, or a fresh one.
-- Answers the name that holds; 1 if it is an earlier request's and its caller has changed something else since; the time
-- (s). The name of a change that was answered is marked, and over once something else was changed.
local held = redis.call('GET', entry)
local answered = held and held:sub(1, 1) == '!'
local name = answered and held:sub(2) or held
local passed = redis.call('GET', latest) ~= digest
redis.call('SET', latest, digest, 'PX', ttl)
local seconds = redis.call('TIME')[1]
if name and name ~= over and not (answered and passed) then return {name, passed and 1 or 0, seconds} end
redis.call('SET', entry, fresh, 'PX', ttl)
return {fresh, 0, seconds}
