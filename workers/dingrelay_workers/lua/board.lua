-- Claim jobs that wait for a call, for one that leaves now.
-- KEYS: where they wait, schedule, then the bucket of recipients if their number is limited
-- ARGV: nonce, lease, margin, record prefix, room (recipients), lane, most jobs to look at, then
--       burst and rate of the bucket (times in ms)
-- Answers {id of the next caller or '', {id, {field, value, ...}}...}: the oldest jobs that the
-- room, and the bucket as it stands, are enough for. Where more wait than there is room for, one of
-- that lane is claimed too, as the last of the answer: it makes the next call.
--
-- Records are found by id here, so their keys can't be declared: this runs on one server, not on
-- a cluster.
local waiting, schedule, bucket = KEYS[1], KEYS[2], KEYS[3]
local nonce, lease, margin, prefix = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local room, lane = tonumber(ARGV[5]), ARGV[6]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local balance
if bucket then
  local burst, rate = tonumber(ARGV[8]), tonumber(ARGV[9])
  local known = redis.call('HMGET', bucket, 'balance', 'at')
  local micros = clock[1] * 1000000 + clock[2]
  local elapsed = math.max(0, micros - (tonumber(known[2]) or micros))
  balance = math.min(burst, (tonumber(known[1]) or 0) + elapsed * rate / 1000000)
end

local answer, promises, gone = {''}, {}, {}
local function claim(id)
  local record = prefix .. id
  redis.call('HINCRBY', record, 'fence', 1)
  redis.call('HSETNX', record, 'started', now)
  redis.call('HSETNX', record, 'waiting', now)
  redis.call('HSET', record, 'state', 'running', 'owner', nonce .. '.' .. #answer,
    'lease', now + lease, 'woken', now)
  redis.call('PEXPIREAT', record, now + margin)
  promises[#promises + 1], promises[#promises + 2] = now + lease, id
  gone[#gone + 1] = id
  answer[#answer + 1] = {id, redis.call('HGETALL', record)}
end

local taken, next = 0, nil
for _, id in ipairs(redis.call('ZRANGE', waiting, 0, ARGV[7] - 1)) do
  local known = redis.call('HMGET', prefix .. id, 'state', 'shares', 'expires', 'seats', 'lane')
  local waits = known[1] == 'queued' or known[1] == 'snoozed'
  if not waits or known[2] ~= waiting or tonumber(known[3] or now + 1) <= now then
    gone[#gone + 1] = id
  else
    local seats = tonumber(known[4])
    if taken + seats > room then
      if known[5] == lane then next = next or id end
    elseif not balance or taken + seats <= balance then
      taken = taken + seats
      claim(id)
    end
    if taken == room and next then break end
  end
end
if next then
  answer[1] = next
  claim(next)
end

if balance and taken > 0 then
  redis.call('HSET', bucket, 'balance', balance - taken, 'at', clock[1] * 1000000 + clock[2])
end
if #promises > 0 then redis.call('ZADD', schedule, unpack(promises)) end
if #gone > 0 then redis.call('ZREM', waiting, unpack(gone)) end
return answer
