-- The attempt that has an Idempotency-Key tells its answer, goes on, or gives the key back.
-- KEYS: entry
-- ARGV: name of the attempt, ttl (ms; 0 gives it back), then, with an answer, status, headers, body
-- Answers 1, or 0 if the key is another attempt's by now.
local entry, attempt, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local status, headers, body = ARGV[3], ARGV[4], ARGV[5]
if redis.call('HGET', entry, 'attempt') ~= attempt then return 0 end
if ttl == 0 then
  redis.call('DEL', entry)
  return 1
end
if status then redis.call('HSET', entry, 'status', status, 'headers', headers, 'body', body) end
redis.call('PEXPIRE', entry, ttl)
return 1
