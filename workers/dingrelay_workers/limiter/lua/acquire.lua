-- Reserve slots for the first waiters of a queue, over all rules of their call, all or nothing.
--
-- Answers granted {start in us, ...}, wait of the first one refused (us), probing, how often slots were voided,
-- senders with jobs parked in the lane, one slot (us), reason, and of the breakers: 1 if a
-- sane answer must be reported, 1 if the call granted is a probe, which one stands open (api, host or hold;
-- then nothing is granted, and the reason is its).

local LOOK_AHEAD = 0.025       -- s of rate that bulk may reserve, so that no poll comes too late
local URGENT, NORMAL = 2, 0.5  -- s of rate that may be reserved before a call of this lane
local AGED_SHARE = 10          -- of so many slots, one is for jobs that have waited long
local PROBE_TIME = 1000000     -- us to wait for the answer of a probe
local PROBE_POLL = 50000       -- us after which to ask whether the probe has been answered
local LISTEN = 250000          -- us after which a fleet that has slowed down looks for answers
local DUST = 0.000001          -- tokens that rounding may cost
local NOTED = 600000000        -- us between two notes in the index, and by which a bucket lives longer
local LONGEST = 1300000000     -- us that a pause can last: twice the longest in an answer

local now, most = microseconds(time_us), #waiters
local parked = redis.call('ZCARD', turns)

-- Breakers: an open one lets nothing leave but a probe at a time.
local open, until_probe, sick, which, why = before_call(api, host, app, now, longest, probe_timeout)
if until_probe > 0 then
  return {{}, math.ceil(until_probe), 0, 0, parked, 0, why, sick, 0, which}
end
local trial = #open > 0 and 1 or 0

-- Rules: a bucket each, and whether a throttling answer has paused it.
local function bucket_of(key, limit)
  local burst, first, top = limit.burst, limit.first, limit.top
  local field = read_bucket(key, now, 'rate', 'grown', 'ceiling', 'paused', 'reason', 'half_open', 'probe',
    'aged', 'noted', 'calls', 'climbs', 'retry', 'unheard', 'since', 'hush', 'slowest', 'voids')
  local rate = present_rate(first, top, field[3])
  return {
    key = key, burst = burst, first = first, top = top, rate = rate, sibling = limit.sibling,
    balance = refilled(field[1], field[2], burst, rate, now), new = not field[2],
    grown = tonumber(field[4]) or now, ceiling = tonumber(field[5]),
    pause = (tonumber(field[6]) or 0) - now, reason = field[7],
    half_open = field[8] == '1', under_way = (tonumber(field[9]) or 0) - now,
    aged = tonumber(field[10]) or 0, noted = tonumber(field[11]) or 0,
    calls = tonumber(field[12]) or 0, climbs = tonumber(field[13]) or now, retry = tonumber(field[14]) or 0,
    unanswered = tonumber(field[15]) or 0, since = tonumber(field[16]) or 0,
    quiet_until = tonumber(field[17]) or 0, slowest = tonumber(field[18]) or 0,
    voids = tonumber(field[19]) or 0,
  }
end

local states, shut, reason, voids, probing = {}, 0, '', 0, 0
for i, key in ipairs(buckets) do
  local bucket = bucket_of(key, limits[i])
  states[i] = bucket
  voids = voids + bucket.voids
  if bucket.pause > 0 and bucket.pause < LONGEST then
    if bucket.pause > shut then shut, reason = bucket.pause, bucket.reason end
  elseif bucket.half_open and bucket.under_way > 0 and bucket.under_way < LONGEST then
    shut = math.max(shut, math.min(PROBE_POLL, bucket.under_way))
  elseif bucket.half_open then
    probing = 1
  end
end

-- Adaptation: calls that got no answer slow the next ones down.
local calls = states[1]
local hushed, silent = note_answers(calls, now, answers, slowest, quiet, timeout)
if hushed and calls.quiet_until > now and most > 0 then
  shut = math.max(shut, math.min(LISTEN, calls.quiet_until - now))
end
if shut > 0 or most == 0 then
  if answers > 0 and not calls.new then redis.call('HSET', calls.key, answers_of_calls(calls)) end
  return {{}, math.ceil(shut), 0, voids, parked, 0, reason, sick, 0, ''}
end
if probing == 1 or trial == 1 or hushed then most = 1 end

-- The tokens that a bucket must have before a call of the lane gets a slot.
local function needed(bucket, cost, reserves)
  if reserves or lane == 'urgent' then return -URGENT * bucket.rate end
  if lane == 'normal' then return -NORMAL * bucket.rate end
  return math.min(cost, bucket.burst) - LOOK_AHEAD * bucket.rate
end

local slot = 0

-- How long a waiter waits for its turn to reserve (s; 0: now), and when its call starts then.
local function look_for_slot(due, reserves)
  local wait, start = 0, 0
  slot = 0
  for i, bucket in ipairs(states) do
    local cost = due[i]
    if bucket.rate > 0 and cost > 0 then
      local missing = needed(bucket, cost, reserves) - bucket.balance
      if missing > DUST then wait = math.max(wait, missing / bucket.rate) end
      start = math.max(start, (cost - bucket.balance) / bucket.rate)
      slot = math.max(slot, cost / bucket.rate)
      if missing > 0 or cost > bucket.balance then bucket.busy = true end
    end
  end
  -- A call that would wait longer is parked, and asks again when the slot is near.
  if wait == 0 and start > max_wait and not reserves and lane ~= 'urgent' then wait = start end
  return wait, start
end

-- Take a slot; how much that is of the limits, in seconds.
local function take_slot(due, reserves, start)
  local weight = UNLIMITED
  for i, bucket in ipairs(states) do
    local cost = due[i]
    if probing == 1 and bucket.half_open then bucket.probe = now + start * 1000000 + PROBE_TIME end
    if bucket.rate > 0 and cost > 0 then
      -- A cost beyond the burst keeps a gap as long after its start as the one before it.
      local beyond = math.max(0, cost - bucket.burst)
      if bucket.sibling then
        -- A sibling delays the call: the tokens of that time may not pile up to a burst.
        bucket.balance = math.min(bucket.balance, bucket.burst + beyond - bucket.rate * start)
      end
      bucket.balance = bucket.balance - cost - beyond
      bucket.calls = bucket.calls + 1
      weight = math.max(weight, cost / bucket.first)
      if reserves then bucket.aged = now + AGED_SHARE * cost / bucket.rate * 1000000 end
    end
  end
  return weight
end

local granted, wait = {}, 0
for number = 1, most do
  local waiter = waiters[number]
  local reserves, due, start = waiter.aged, {}
  for i, bucket in ipairs(states) do
    due[i] = costs[(number - 1) * #states + i]
    reserves = reserves and bucket.aged <= now
  end
  wait, start = look_for_slot(due, reserves)
  if wait > 0 then break end
  local weight = take_slot(due, reserves, start)
  -- Turns: a job that was woken in its sender's has had it counted, and others count while jobs are parked.
  if waiter.woken ~= '' then
    redis.call('ZREM', in_turn, waiter.woken)
  elseif parked > 0 then
    charge(turns, waiter.sender, weight)
  end
  granted[#granted + 1] = math.ceil(start * 1000000)
end

if #granted > 0 then
  note_calls(calls, now, #granted, hushed and silent)
  note_probe(open, now, now + granted[1], probe_timeout)
end

local function write_bucket(bucket, ...)
  if bucket.top > bucket.first then
    redis.call('HSET', bucket.key, 'balance', bucket.balance, 'at', now, 'aged', bucket.aged, 'rate', bucket.rate,
      'grown', now, 'calls', bucket.calls, 'climbs', bucket.climbs, ...)
  else
    redis.call('HSET', bucket.key, 'balance', bucket.balance, 'at', now, 'aged', bucket.aged, ...)
  end
  if bucket.probe then redis.call('HSET', bucket.key, 'probe', bucket.probe) end
  local noted = now - bucket.noted > NOTED
  if noted then
    redis.call('HSET', bucket.key, 'noted', now)
    redis.call('ZADD', index, math.floor(now / 1000), bucket.key)
    redis.call('ZREMRANGEBYSCORE', index, '-inf', math.floor(now / 1000) - 2 * ttl)
    redis.call('PEXPIRE', index, 2 * ttl)
  end
  if bucket.new then
    redis.call('PEXPIRE', bucket.key, ttl + NOTED / 1000)
  elseif noted then
    redis.call('PEXPIRE', bucket.key, ttl + NOTED / 1000, 'GT')
  end
end

for _, bucket in ipairs(states) do
  if bucket.busy and not bucket.half_open and bucket.top > bucket.first then climb(bucket, now) end
  if bucket == calls then write_bucket(bucket, answers_of_calls(calls)) else write_bucket(bucket) end
end

return {granted, math.ceil(wait * 1000000), probing, voids, parked,
  math.ceil(slot * 1000000), '', (sick == 1 or hushed) and 1 or 0, trial, ''}
