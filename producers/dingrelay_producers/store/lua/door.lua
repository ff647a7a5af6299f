-- The name under which equal changes at the drop-in door are one job: which one holds, and how it ends.
-- KEYS: entry, the latest change of its caller
-- ARGV: begin, digest of the change, a new name, ttl (ms), the name that is over or ''; or
--       end, name, ttl (ms; 0 gives it back), 1 if the change is answered
-- Answers to begin the name that holds; 1 if it is an earlier request's and its caller has changed something else
-- since; the time (s). To end 1, or 0 if the entry is another name's by now.
-- The name of a change that was answered is marked, and over once something else was changed.
local entry, latest, verb = KEYS[1], KEYS[2], ARGV[1]
local found = redis.call('GET', entry)
local answered = found and found:sub(1, 1) == '!'
local name = answered and found:sub(2) or found

if verb == 'begin' then
  local digest, fresh, ttl, over = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
  local now = redis.call('TIME')[1]
  local passed = redis.call('GET', latest) ~= digest
  redis.call('SET', latest, digest, 'PX', ttl)
  if name and name ~= over and not (answered and passed) then return {name, passed and 1 or 0, now} end
  redis.call('SET', entry, fresh, 'PX', ttl)
  return {fresh, 0, now}
end

local ttl = tonumber(ARGV[3])
if not name or name ~= ARGV[2] then return 0 end
if ttl == 0 then
  redis.call('DEL', entry)
elseif ARGV[4] ~= '1' then
  redis.call('PEXPIRE', entry, ttl)
elseif not answered then
  -- Its time begins with the first answer: else one that is asked for again and again would never be made again.
  redis.call('SET', entry, '!' .. name, 'PX', ttl)
end
return 1
