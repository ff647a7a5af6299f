-- A message joins the digest of its target that is open, or begins one. A message is in one digest, however often it asks.
-- One that begins a second one, since the first failed or it had left that, gives it another name.
-- Answers the digest, and its result or ''.
local joined = redis.call('GET', digest_of_job)
if not joined then
  local fresh = string.format('%s.%.0f', job, milliseconds())
  joined = redis.call('HGET', target, 'open') or fresh
  if redis.call('LLEN', messages .. joined) >= most then joined = fresh end
  redis.call('HSET', target, 'open', joined)
  redis.call('PEXPIRE', target, ttl)
  redis.call('RPUSH', messages .. joined, message)
  redis.call('PEXPIRE', messages .. joined, ttl)
  redis.call('SET', digest_of_job, joined, 'PX', ttl)
end
return {joined, redis.call('GET', results .. joined) or ''}
