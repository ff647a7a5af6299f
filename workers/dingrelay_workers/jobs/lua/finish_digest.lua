-- A digest is over, and so are its messages, to whatever time they were postponed since; the next one may follow.
local open, busy, since = unpack(redis.call('HMGET', target, 'open', 'busy', 'since'))
redis.call('SET', result_key, result, 'PX', ttl)
if open == digest then redis.call('HDEL', target, 'open') end
-- One that was given up is not the target's any more.
if busy == digest then
  redis.call('HSET', target, 'last', since or 0)
  redis.call('HDEL', target, 'busy')
end
for _, message in ipairs(redis.call('LRANGE', messages, 0, -1)) do
  redis.call('HDEL', records .. cjson.decode(message).job, 'not_before')
end
