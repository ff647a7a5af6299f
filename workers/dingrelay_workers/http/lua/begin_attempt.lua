-- A request with an Idempotency-Key: whether it is the first, a repetition or another one.
-- Answers {'begun', name of the first attempt}, from which follow the ids of what the request makes; {'under way'},
-- {'other'}, or {'done', name of the first attempt, status, headers, body}.
local now = milliseconds()
local known_digest, first, owner, lease_end, status, headers, body = unpack(
  redis.call('HMGET', entry, 'digest', 'first', 'attempt', 'until', 'status', 'headers', 'body'), 1, 7)

if not known_digest then
  redis.call('HSET', entry, 'digest', digest, 'first', attempt, 'attempt', attempt, 'until', now + lease)
  redis.call('PEXPIRE', entry, life)
  return {'begun', attempt}
end
if known_digest ~= digest then return {'other'} end
if status then return {'done', first, status, headers, body} end
-- An attempt that asks twice has lost the answer, with its connection.
if owner ~= attempt and tonumber(lease_end) > now then return {'under way'} end
redis.call('HSET', entry, 'attempt', attempt, 'until', now + lease)
return {'begun', first}
