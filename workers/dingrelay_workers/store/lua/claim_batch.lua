-- Claim jobs that wait for a call, for one that leaves now.
-- KEYS: where they wait, then the bucket of recipients if their number is limited
-- ARGV: owner, lease (ms), room (recipients), lane, most jobs to look at, then burst and rate of the
--       bucket
-- Answers {id of the next caller or '', now, {id, {field, value, ...}}...}: the oldest jobs that the
-- room, and the bucket as it stands, are enough for. Where more wait than there is room for, one of
-- that lane is claimed too, as the last of the answer: it makes the next call.
local waiting, bucket = KEYS[1], KEYS[2]
local owner, lease, room, lane = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local most, burst, rate = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local balance
if bucket then
  local known = redis.call('HMGET', bucket, 'balance', 'at')
  local micros = clock[1] * 1000000 + clock[2]
  local elapsed = math.max(0, micros - (tonumber(known[2]) or micros))
  balance = math.min(burst, (tonumber(known[1]) or 0) + elapsed * rate / 1000000)
end

local answer, gone = {'', now}, {}
local function claim(id)
  local record = JOB .. id
  redis.call('HSETNX', record, 'waiting', now)
  gone[#gone + 1] = id
  local known, fields = read(record)
  answer[#answer + 1] = {id, run(record, id, known, fields, owner .. '.' .. #answer, lease, false)}
end

local taken, next = 0, nil
for _, id in ipairs(redis.call('ZRANGE', waiting, 0, most - 1)) do
  local known = redis.call('HMGET', JOB .. id,
    'state', 'batch_key', 'expires', 'recipients', 'lane', 'v', 'kind')
  local here = known[1] == 'queued' or known[1] == 'snoozed'
  if not here or known[2] ~= waiting or tonumber(known[3] or now + 1) <= now then
    gone[#gone + 1] = id
  elseif known_here(known[6], known[7]) then
    local recipients = tonumber(known[4])
    if taken + recipients > room then
      if known[5] == lane and not next then next = id end
    elseif not balance or taken + recipients <= balance then
      taken = taken + recipients
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
if #gone > 0 then redis.call('ZREM', waiting, unpack(gone)) end
place_starting()
return answer
