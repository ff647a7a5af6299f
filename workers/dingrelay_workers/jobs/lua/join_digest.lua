-- Add a message to the digest that is open, or to a new one. A message is in one digest, however often it asks.
--
-- KEYS: the digest of this job, the digests of its target
-- ARGV: 1 job, which names a new digest, 2 the message, 3 what keys of messages begin with, 4 what keys of results
--       begin with, 5 messages of a digest at most, 6 milliseconds that all of it lives
--
-- Answers the digest, and its result or ''.

local member, target = KEYS[1], KEYS[2]
local job, message, messages, results, most, ttl = unpack(ARGV)

local digest = redis.call('GET', member)
if not digest then
  digest = redis.call('HGET', target, 'open') or job
  if redis.call('LLEN', messages .. digest) >= tonumber(most) then digest = job end
  redis.call('HSET', target, 'open', digest)
  redis.call('PEXPIRE', target, ttl)
  redis.call('RPUSH', messages .. digest, message)
  redis.call('PEXPIRE', messages .. digest, ttl)
  redis.call('SET', member, digest, 'PX', ttl)
end
return {digest, redis.call('GET', results .. digest) or ''}
