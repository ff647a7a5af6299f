-- queued → running: one worker owns the job until its lease runs out.
-- KEYS: record, schedule, queue, recent
-- ARGV: id, nonce, lease, woken, kind, app, lane, queue name, payload, digest, summary,
--       margin, recent size, recent ttl, queue ttl, due, expires (times in ms)
-- Answers {verdict, field, value, ...}; verdict: claimed | ended | busy | early. A message without
-- a record (sent by a Celery client without our package) makes one here. The same nonce may claim
-- again: its first answer was lost.
local record, schedule, queue, recent = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
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
redis.call('PEXPIRE', queue, ARGV[15])

local known = redis.call('HMGET', record, 'state', 'owner', 'lease', 'due')
local state = known[1]
if not state then
  local due = math.max(now, tonumber(ARGV[16]))
  redis.call('HSET', record,
    'kind', ARGV[5], 'app', ARGV[6], 'lane', ARGV[7], 'queue', ARGV[8],
    'payload', ARGV[9], 'digest', ARGV[10], 'summary', ARGV[11],
    'state', 'queued', 'created', now, 'due', due, 'woken', due > now and 0 or now)
  if ARGV[17] ~= '0' then redis.call('HSET', record, 'expires', ARGV[17]) end
  redis.call('PEXPIREAT', record, due + tonumber(ARGV[12]))
  redis.call('ZADD', schedule, due, id)
  redis.call('ZADD', recent, now, id)
  redis.call('ZREMRANGEBYRANK', recent, 0, -1 - tonumber(ARGV[13]))
  redis.call('PEXPIRE', recent, ARGV[14])
  state, known[4] = 'queued', tostring(due)
end

local again = false
if state == 'running' then
  if known[2] == nonce then
    again = true
  elseif tonumber(known[3]) > now then
    return {'busy', 'state', state}
  else
    -- The lease ran out: its worker is gone, perhaps because of this very job.
    redis.call('HINCRBY', record, 'crashes', 1)
  end
elseif state ~= 'queued' and state ~= 'snoozed' and state ~= 'retrying' then
  return {'ended', 'state', state}
elseif tonumber(known[4]) > now then
  return {'early', 'state', state}
end

if not again then redis.call('HINCRBY', record, 'fence', 1) end
redis.call('HSETNX', record, 'started', now)
redis.call('HSET', record, 'state', 'running', 'owner', nonce, 'lease', now + lease, 'woken', now)
redis.call('PEXPIREAT', record, now + tonumber(ARGV[12]))
redis.call('ZADD', schedule, now + lease, id)
local answer = redis.call('HGETALL', record)
table.insert(answer, 1, 'claimed')
return answer
