-- The digests of a robot or group: a message joins the one that is open; one is closed, so that what it holds stays as
-- it is, once the one before it is posted and its time has come; and it is over.
--
-- KEYS: the digests of the target, then the digest of a job to join, the result of a digest that is over
-- ARGV: join, job, which names a new digest, its message, what keys of messages begin with, what keys of results begin
--       with, messages of a digest at most, ms that all of it lives;
--       close, digest, ms between two digests, ms after which one that is being posted is given up; or
--       finish, digest, its result, ms that it lives
--
-- Answers to join the digest, and its result or ''. A message is in one digest, however often it asks. To close ms to
-- wait; 0: it is closed.

local target, other = KEYS[1], KEYS[2]
local verb, digest = ARGV[1], ARGV[2]
local POLL = 1000
local open, busy, since, last = unpack(redis.call('HMGET', target, 'open', 'busy', 'since', 'last'))

local function join(job, message, messages, results, most, ttl)
  local joined = redis.call('GET', other)
  if not joined then
    joined = open or job
    if redis.call('LLEN', messages .. joined) >= tonumber(most) then joined = job end
    redis.call('HSET', target, 'open', joined)
    redis.call('PEXPIRE', target, ttl)
    redis.call('RPUSH', messages .. joined, message)
    redis.call('PEXPIRE', messages .. joined, ttl)
    redis.call('SET', other, joined, 'PX', ttl)
  end
  return {joined, redis.call('GET', results .. joined) or ''}
end

local function close(every, given_up)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if busy == digest then return 0 end
  if busy and now - tonumber(since) < given_up then return POLL end
  local wait = (tonumber(last) or 0) + every - now
  if wait > 0 then return math.min(wait, every) end
  redis.call('HSET', target, 'busy', digest, 'since', now)
  if open == digest then redis.call('HDEL', target, 'open') end
  return 0
end

local function finish(result, ttl)
  redis.call('SET', other, result, 'PX', ttl)
  if open == digest then redis.call('HDEL', target, 'open') end
  -- One that was given up is not the target's any more.
  if busy == digest then
    redis.call('HSET', target, 'last', since or 0)
    redis.call('HDEL', target, 'busy')
  end
end

if verb == 'join' then return join(unpack(ARGV, 2)) end
if verb == 'close' then return close(tonumber(ARGV[3]), tonumber(ARGV[4])) end
return finish(ARGV[3], ARGV[4])
