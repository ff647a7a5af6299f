-- Whether a request with this Idempotency-Key is the first, a repetition, or another one.
-- KEYS: entry
-- ARGV: digest of the request, name of this attempt, its lease (ms)
-- Answers {'begun'}, {'under way'}, {'other'}, or {'done', status, headers, body}.
local entry, digest, attempt, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', entry, 'digest', 'status', 'headers', 'body', 'attempt')
-- An attempt that asks twice has lost the answer, with its connection.
if not known[1] or known[5] == attempt then
  redis.call('HSET', entry, 'digest', digest, 'attempt', attempt)
  redis.call('PEXPIRE', entry, lease)
  return {'begun'}
end
if known[1] ~= digest then return {'other'} end
if not known[2] then return {'under way'} end
return {'done', known[2], known[3], known[4]}
