-- Accept a job: its record and its place on the schedule, both or neither.
-- KEYS: record, schedule, recent, and a lease if only its holder may
-- ARGV: id, kind, app, lane, queue, payload, digest, summary, due, expires, parent,
--       grace, margin, recent size, recent ttl, where it waits for a call that carries several
--       jobs or '', seats it takes there, ttl of that, the lease's value (times in ms)
-- Answers {verdict, time of the wake-up to publish or 0}; verdict: created | exists | conflict
-- | fenced: the lease is another's.
local record, schedule, recent = KEYS[1], KEYS[2], KEYS[3]
local id, due = ARGV[1], tonumber(ARGV[9])

if KEYS[4] and redis.call('GET', KEYS[4]) ~= ARGV[19] then return {'fenced', 0} end
local known = redis.call('HGET', record, 'digest')
if known then
  return {known == ARGV[7] and 'exists' or 'conflict', 0}
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local later = due > now
local woken = later and 0 or now
redis.call('HSET', record,
  'kind', ARGV[2], 'app', ARGV[3], 'lane', ARGV[4], 'queue', ARGV[5],
  'payload', ARGV[6], 'digest', ARGV[7], 'summary', ARGV[8],
  'state', 'queued', 'created', now, 'due', later and due or now, 'woken', woken)
if ARGV[10] ~= '0' then redis.call('HSET', record, 'expires', ARGV[10]) end
if ARGV[11] ~= '' then redis.call('HSET', record, 'parent', ARGV[11]) end
if ARGV[16] ~= '' then
  redis.call('HSET', record, 'shares', ARGV[16], 'seats', ARGV[17])
  if not later then
    redis.call('ZADD', ARGV[16], now, id)
    redis.call('PEXPIRE', ARGV[16], ARGV[18])
  end
end
redis.call('PEXPIREAT', record, (later and due or now) + tonumber(ARGV[13]))
redis.call('ZADD', schedule, later and due or now + tonumber(ARGV[12]), id)

redis.call('ZADD', recent, now, id)
redis.call('ZREMRANGEBYRANK', recent, 0, -1 - tonumber(ARGV[14]))
redis.call('PEXPIRE', recent, ARGV[15])
return {'created', woken}
