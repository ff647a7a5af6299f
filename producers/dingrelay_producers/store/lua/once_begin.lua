-- Whether a request with this Idempotency-Key is the first, a repetition, or another one.
-- KEYS: entry
-- ARGV: digest of the request, name of this attempt, its lease (ms), how long the entry lives (ms)
-- Answers {'begun', name of the first attempt}, from which follow the ids of what the request makes;
-- {'under way'}, {'other'}, or {'done', name of the first attempt, status, headers, body}.
local entry, digest, attempt, lease, life = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', entry, 'digest', 'first', 'attempt', 'until', 'status', 'headers', 'body')
local known_digest, first, owner, lease_end, status = unpack(known, 1, 5)
if not known_digest then
  redis.call('HSET', entry, 'digest', digest, 'first', attempt, 'attempt', attempt, 'until', now + lease)
  redis.call('PEXPIRE', entry, life)
  return {'begun', attempt}
end
if known_digest ~= digest then return {'other'} end
if status then return {'done', first, status, known[6], known[7]} end
-- An attempt that asks twice has lost the answer, with its connection.
if owner ~= attempt and tonumber(lease_end) > now then return {'under way'} end
redis.call('HSET', entry, 'attempt', attempt, 'until', now + lease)
return {'begun', first}
