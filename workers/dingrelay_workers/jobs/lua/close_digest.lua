-- Close a digest, so that what it holds stays as it is, once the one before it is posted and its time has come.
--
-- KEYS: the digests of its target
-- ARGV: 1 digest, 2 milliseconds between two digests, 3 milliseconds after which one that is being posted is given up
--
-- Answers milliseconds to wait; 0: it is closed.

local target = KEYS[1]
local digest, every, given_up = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local POLL = 1000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local open, busy, since, last = unpack(redis.call('HMGET', target, 'open', 'busy', 'since', 'last'))
if busy == digest then return 0 end
if busy and now - tonumber(since) < given_up then return POLL end
local wait = (tonumber(last) or 0) + every - now
if wait > 0 then return math.min(wait, every) end
redis.call('HSET', target, 'busy', digest, 'since', now)
if open == digest then redis.call('HDEL', target, 'open') end
return 0
