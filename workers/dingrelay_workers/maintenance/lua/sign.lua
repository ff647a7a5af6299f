-- Write a worker's sign of life, or take it away.
-- KEYS: presence
-- ARGV: worker, its sign ('' takes it away), ttl (ms)
-- Answers the signs of all workers: name, sign, name, sign, …
local presence, worker, sign, ttl = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if sign == '' then
  redis.call('HDEL', presence, worker)
else
  redis.call('HSET', presence, worker, sign)
  redis.call('PEXPIRE', presence, ttl)
end
return redis.call('HGETALL', presence)
