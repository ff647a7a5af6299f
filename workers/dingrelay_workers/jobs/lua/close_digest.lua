-- Close a digest, so that what it holds stays as it is, once the one before it is posted and its time has come.
-- Answers ms to wait; 0: it is closed.
local POLL = 1000
local now = milliseconds()
local open, busy, since, last = unpack(redis.call('HMGET', target, 'open', 'busy', 'since', 'last'))
if busy == digest then return 0 end
if busy and now - tonumber(since) < given_up then return POLL end
local wait = (tonumber(last) or 0) + every - now
if wait > 0 then return math.min(wait, every) end
redis.call('HSET', target, 'busy', digest, 'since', now)
if open == digest then redis.call('HDEL', target, 'open') end
return 0
