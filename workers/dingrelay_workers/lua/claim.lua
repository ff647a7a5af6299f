-- queued → running: one worker owns the job until its lease runs out.
-- KEYS: record, schedule, queue
-- ARGV: id, nonce, lease, woken, margin, queue ttl (times in ms)
-- Answers {verdict, field, value, ...}; verdict: claimed | ended | busy | early | missing. The same
-- nonce may claim again: its first answer was lost. If somebody else has run the job or runs it, the
-- second is where others wait with which it could have shared a call, if any do.
local record, schedule, queue = KEYS[1], KEYS[2], KEYS[3]
local id, nonce, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- How far the queue has come, in slots of 5 s: what was published before a message that started
-- a grace ago should have started too.
local woken = tonumber(ARGV[4])
local slot = 's' .. math.floor(now / 5000)
if woken > tonumber(redis.call('HGET', queue, slot) or 0) then
  redis.call('HSET', queue, slot, woken, 'started', now)
else
  redis.call('HSET', queue, 'started', now)
end
redis.call('PEXPIRE', queue, ARGV[6])

local known = redis.call('HMGET', record, 'state', 'owner', 'lease', 'due', 'shares')
local state = known[1]
if not state then return {'missing', ''} end

local function left(verdict)
  local others = known[5] and redis.call('EXISTS', known[5]) == 1
  return {verdict, others and known[5] or ''}
end

local again = false
if state == 'running' then
  if known[2] == nonce then
    again = true
  elseif tonumber(known[3]) > now then
    return left('busy')
  elseif not string.find(known[2], '.', 1, true) then
    -- The lease ran out: its worker is gone, perhaps because of this very job. Of those that a
    -- call took along (`board.lua`) it was hardly one: a hundred would be blamed for each crash.
    redis.call('HINCRBY', record, 'crashes', 1)
  end
elseif state ~= 'queued' and state ~= 'snoozed' and state ~= 'retrying' then
  return left('ended')
elseif tonumber(known[4]) > now then
  return {'early', ''}
end

if not again then redis.call('HINCRBY', record, 'fence', 1) end
if known[5] then redis.call('ZREM', known[5], id) end
redis.call('HSETNX', record, 'started', now)
redis.call('HSET', record, 'state', 'running', 'owner', nonce, 'lease', now + lease, 'woken', now)
redis.call('PEXPIREAT', record, now + tonumber(ARGV[5]))
redis.call('ZADD', schedule, now + lease, id)
local answer = redis.call('HGETALL', record)
table.insert(answer, 1, 'claimed')
return answer
