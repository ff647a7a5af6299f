-- Claim jobs without their wake-ups: those that a call takes along which leaves now, or those that were woken for
-- their turn and whose wake-ups are late.
-- KEYS: where they wait for such a call, and the bucket of recipients if their number is limited; or the jobs of
--       a lane that were woken and have not had their call
-- ARGV: owner, lease, batch, room (recipients), lane, most jobs to look at, then burst and rate of the bucket; or
--       owner, lease, late, queue of the jobs, how many at most, how long ago they were woken at least (times in ms)
-- Answers {id of the next caller or '', now, {id, {field, value, ...}}...}. For a call these are the oldest jobs
-- that the room, and the bucket as it stands, are enough for. Where more wait than there is room for, one of that
-- lane is claimed too, as the last of the answer: it makes the next call.
local waiting, bucket = KEYS[1], KEYS[2]
local owner, lease, why = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local answer = {'', now}

-- An owner of a job that a call takes along is spelt in another way than others: see `claim.lua`.
local function claim(id, separator)
  local known, fields = read(JOB .. id)
  local claimed = run(JOB .. id, id, known, fields, owner .. separator .. #answer, lease, false)
  answer[#answer + 1] = {id, claimed}
end

local function take_along()
  local room, lane, most = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
  local burst, rate, balance = tonumber(ARGV[7]), tonumber(ARGV[8]), nil
  local micros = clock[1] * 1000000 + clock[2]
  if bucket then
    local known = redis.call('HMGET', bucket, 'balance', 'at')
    local elapsed = math.max(0, micros - (tonumber(known[2]) or micros))
    balance = math.min(burst, (tonumber(known[1]) or 0) + elapsed * rate / 1000000)
  end
  local gone, taken, next = {}, 0, nil
  local function take(id)
    redis.call('HSETNX', JOB .. id, 'waiting', now)
    gone[#gone + 1] = id
    claim(id, '.')
  end
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
        take(id)
      end
      if taken == room and next then break end
    end
  end
  if next then
    answer[1] = next
    take(next)
  end
  if balance and taken > 0 then redis.call('HSET', bucket, 'balance', balance - taken, 'at', micros) end
  if #gone > 0 then redis.call('ZREM', waiting, unpack(gone)) end
end

local function take_late()
  local queue, most, late = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', now - late)) do
    if #answer - 2 >= most then break end
    local known = redis.call('HMGET', JOB .. id, 'state', 'turn', 'queue', 'v', 'kind', 'batch_key')
    if known[1] == 'snoozed' and known[2] == waiting and known[3] == queue
        and known_here(known[4], known[5]) then
      claim(id, '-')
      if known[6] then redis.call('ZREM', known[6], id) end
    end
  end
end

if why == 'batch' then take_along() else take_late() end
place_starting()
return answer
