-- The attempt that has an Idempotency-Key goes on, is refused, fails, or has its answer.
-- KEYS: entry
-- ARGV: name of the attempt, what it does (renewed | refused | failed | answered), then its lease (ms), or
--       status, headers and body
-- Answers 1, or 0 if the key is another attempt's by now.
local entry, attempt, verb = KEYS[1], ARGV[1], ARGV[2]
local owner, first = unpack(redis.call('HMGET', entry, 'attempt', 'first'))
if owner ~= attempt then return 0 end
if verb == 'answered' then
  redis.call('HSET', entry, 'status', ARGV[3], 'headers', ARGV[4], 'body', ARGV[5])
elseif verb == 'renewed' then
  local time = redis.call('TIME')
  redis.call('HSET', entry, 'until', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3])
elseif verb == 'refused' and first == attempt then
  redis.call('DEL', entry)  -- nothing was made: the key may name a better request
else
  redis.call('HSET', entry, 'until', 0)
end
return 1
