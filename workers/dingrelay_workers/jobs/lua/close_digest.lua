-- Close a digest, so that what it holds stays as it is, once the one before it is posted and its time has come.
-- Until then messages leave it whose jobs do not wait for it any more: they were cancelled or discarded, have expired, or
-- are postponed. One that is wanted again joins another digest.
-- Answers ms to wait; 0: it is closed.
local POLL = 1000
local now = milliseconds()
local open, busy, since, last = unpack(redis.call('HMGET', target, 'open', 'busy', 'since', 'last'))
if busy == digest then return 0 end
if busy and now - tonumber(since) < given_up then return POLL end
local wait = (tonumber(last) or 0) + every - now
if wait > 0 then return math.min(wait, every) end
redis.call('HSET', target, 'busy', digest, 'since', now)
redis.call('PEXPIRE', target, ttl)  -- Redis may have forgotten it since a message joined

local WAITS = {queued = true, snoozed = true, retrying = true, running = true}
local function is_wanted(id)
  local fields = redis.call('HMGET', records .. id, 'state', 'cancel', 'expires', 'not_before')
  local expires, not_before = tonumber(fields[3] or nil), tonumber(fields[4] or nil)
  return WAITS[fields[1]] and not fields[2] and (expires or now + 1) > now and (not_before or 0) <= now
end
for _, message in ipairs(redis.call('LRANGE', messages, 0, -1)) do
  local id = cjson.decode(message).job
  if not is_wanted(id) then
    redis.call('LREM', messages, 1, message)
    redis.call('DEL', digests_of .. id)
  end
end
if open == digest then redis.call('HDEL', target, 'open') end
return 0
