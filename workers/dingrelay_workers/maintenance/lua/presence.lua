-- Write a worker's heartbeat, and read those of all workers.
-- KEYS: presence
-- ARGV: worker, its sign, ttl (ms)
-- Answers {worker, sign, ...}.
local presence, worker, sign, ttl = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
redis.call('HSET', presence, worker, sign)
redis.call('PEXPIRE', presence, ttl)
return redis.call('HGETALL', presence)
