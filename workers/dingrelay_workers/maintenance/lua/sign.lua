-- Write a worker's sign of life, or take it away.
-- Answers the signs of all workers: name, sign, name, sign, …
if not sign then
  redis.call('HDEL', presence, worker)
else
  redis.call('HSET', presence, worker, sign)
  redis.call('PEXPIRE', presence, ttl)
end
return redis.call('HGETALL', presence)
