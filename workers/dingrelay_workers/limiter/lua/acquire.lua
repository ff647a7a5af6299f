-- Reserve slots for the first waiters of a queue, over all rules of their call, all or nothing.
--
-- KEYS: one bucket per rule, then the index of buckets, then the breakers of the API, of its host and
--       of the app if it is held, then the turns of the lane, and its jobs that were woken for theirs
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 lane
--       3 milliseconds a bucket lives unused
--       4 number of waiters; 0 only reads whether a bucket is paused
--       5 us between two probes of a breaker at most, 6 us for which a probe's answer is waited for
--       7 answers of this API that came to this process since it last asked, 8 us of the slowest
--       9 us without an answer after which the fleet slows down, 10 us after which a call times out
--       11 us that a call may wait for its slot where it was not promised one
--       12 numbers per rule: burst, first rate, top rate (tokens/s; 0: no limit, only penalties),
--         window (s), 1 if every call that takes from this bucket also takes from its siblings
--       per waiter: 1 if it has waited long, its job if that was woken for this call or '', its sender,
--         then its cost under each rule
--
-- Answers granted {start in us, ...}, wait of the first one refused (us), probing, paused,
-- saturated, senders with jobs parked in the lane, one slot (us), reason, and of the breakers: 1 if a
-- sane answer must be reported, 1 if the call granted is a probe, which one stands open (api, host or hold;
-- then nothing is granted, and the reason is its).
--
-- A bucket is the generic cell rate algorithm: `balance` tokens at time `at`, at most `burst`,
-- below zero where coming slots are reserved. A call starts when the balance has covered it.

local LOOK_AHEAD = 0.025       -- s of rate that bulk may reserve, so that no poll comes too late
local URGENT, NORMAL = 2, 0.5  -- s of rate that may be reserved before a call of this lane
local AGED_SHARE = 10          -- of so many slots, one is for jobs that have waited long
local PROBE_TIME = 1000000     -- us to wait for the answer of a probe
local PROBE_POLL = 50000       -- us after which to ask whether the probe has been answered
local DUST = 0.000001          -- tokens that rounding may cost
local NOTED = 600000000        -- us between two notes in the index, and by which a bucket lives longer
local NEAR_TOP = 0.9875        -- share of the limit to which a rate climbs: at the limit itself, calls
                               -- that cross on their way put one too many into every few seconds
local CLIMB = 0.01             -- share of the limit by which a climb quickens every second: the first
                               -- seconds show whether the limit is still near, the next ones make up
local QUICKEST = 15            -- s after which a climb gets no quicker
local FEW = 5                  -- calls without an answer that show nothing yet
local SLOWER = 3               -- times as long as the slowest answers take: then silence is unusual
local EASE = 0.1               -- by which that is forgotten, an answer
local LISTEN = 250000          -- us after which a fleet that has slowed down looks for answers
local LONGEST = 1300000000     -- us that a pause can last: twice the longest in an answer

local now = microseconds(ARGV[1])
local lane, ttl, waiters = ARGV[2], ARGV[3], tonumber(ARGV[4])
local rules, index, cursor = #KEYS - 6, KEYS[#KEYS - 5], 12
local turns, coming = KEYS[#KEYS - 1], KEYS[#KEYS]
local longest, patience = tonumber(ARGV[5]), tonumber(ARGV[6])
local answered, slow = tonumber(ARGV[7]), tonumber(ARGV[8])
local quiet, timeout = tonumber(ARGV[9]), tonumber(ARGV[10])
local max_wait = tonumber(ARGV[11]) / 1000000
local buckets, shut, reason = {}, 0, ''
local paused, probing, parked = 0, 0, redis.call('ZCARD', turns)

local sick, open, trial, what = 0, {}, 0, ''
local own, host, hold = KEYS[#KEYS - 4], KEYS[#KEYS - 3], KEYS[#KEYS - 2]
if redis.call('EXISTS', own, host, hold) > 0 then
  own = read_breaker(own, now, longest, patience)
  host = read_breaker(host, now, longest, patience)
  hold = read_breaker(hold, now, longest, patience)
  if own.sick > 0 or host.sick > 0 or hold.sick > 0 then sick = 1 end
  local until_probe, which, why
  open, until_probe, which, why = gate(now, own, host, hold)
  if #open > 0 then
    if until_probe > 0 then
      return {{}, math.ceil(until_probe), 0, 0, 0, parked, 0, why, sick, 0, which}
    end
    sick, trial = 1, 1
  end
end

local function read(key)
  return redis.call('HMGET', key, 'balance', 'at', 'rate', 'grown', 'ceiling',
    'paused', 'reason', 'half_open', 'probe', 'aged', 'noted', 'calls', 'climbs', 'retry',
    'unheard', 'since', 'hush', 'slowest')
end

for i = 1, rules do
  local burst, first, top = tonumber(ARGV[cursor]), tonumber(ARGV[cursor + 1]), tonumber(ARGV[cursor + 2])
  local field = read(KEYS[i])
  if follow_clock(KEYS[i], field[2], now) then field = read(KEYS[i]) end
  local rate = present_rate(first, top, field[3])
  local elapsed = math.max(0, now - (tonumber(field[2]) or now))
  local bucket = {
    key = KEYS[i], burst = burst, first = first, top = top, rate = rate,
    window = tonumber(ARGV[cursor + 3]), sibling = ARGV[cursor + 4] == '1',
    balance = math.min(burst, (tonumber(field[1]) or burst) + elapsed * rate / 1000000),
    grown = tonumber(field[4]) or now, ceiling = tonumber(field[5]),
    half_open = field[8] == '1',
    aged = tonumber(field[10]) or 0, noted = tonumber(field[11]) or 0, new = not field[2],
    calls = tonumber(field[12]) or 0, climbs = tonumber(field[13]) or now,
    retry = tonumber(field[14]) or 0,
    unheard = tonumber(field[15]) or 0, since = tonumber(field[16]) or 0,
    hush = tonumber(field[17]) or 0, slowest = tonumber(field[18]) or 0,
  }
  buckets[i] = bucket
  local pause, probe = (tonumber(field[6]) or 0) - now, (tonumber(field[9]) or 0) - now
  if pause > 0 and pause < LONGEST then
    paused = 1
    if pause > shut then shut, reason = pause, field[7] end
  elseif bucket.half_open then
    if probe > 0 and probe < LONGEST then
      shut = math.max(shut, math.min(PROBE_POLL, probe))
    else
      probing = 1
    end
  end
  cursor = cursor + 5
end

-- Unanswered calls: before the first of them times out, hundreds would have left. So with
-- some unanswered for longer than answers take, the next wait, each as long as all before it. A
-- DingTalk that is merely slow is soon known to be; one answer ends it.
local first = buckets[1]
if answered > 0 then
  first.unheard, first.since, first.hush = 0, 0, 0
  first.slowest = math.max(slow, first.slowest + (slow - first.slowest) * EASE)
end
local silent = now - first.since
if first.since > now or silent > timeout then first.unheard = 0 end
local hushed = first.unheard >= FEW and silent > math.max(quiet, SLOWER * first.slowest)
if hushed and first.hush > now and waiters > 0 then
  shut = math.max(shut, math.min(LISTEN, first.hush - now))
end

local function answers_of_calls()
  return 'unheard', first.unheard, 'since', first.since, 'hush', first.hush, 'slowest', first.slowest
end

if shut > 0 or waiters == 0 then
  if answered > 0 and not first.new then redis.call('HSET', first.key, answers_of_calls()) end
  return {{}, math.ceil(shut), 0, paused, 0, parked, 0, reason, sick, 0, ''}
end
if probing == 1 or trial == 1 or hushed then waiters = 1 end

local function needed(bucket, cost, reserves)
  if reserves or lane == 'urgent' then return -URGENT * bucket.rate end
  if lane == 'normal' then return -NORMAL * bucket.rate end
  return math.min(cost, bucket.burst) - LOOK_AHEAD * bucket.rate
end

local granted, wait, saturated, slot = {}, 0, 0, 0
for _ = 1, waiters do
  local reserves, woken, sender, start = ARGV[cursor] == '1', ARGV[cursor + 1], ARGV[cursor + 2], 0
  slot = 0
  for i = 1, rules do reserves = reserves and buckets[i].aged <= now end
  for i = 1, rules do
    local bucket, cost = buckets[i], tonumber(ARGV[cursor + 2 + i])
    if bucket.rate > 0 and cost > 0 then
      local missing = needed(bucket, cost, reserves) - bucket.balance
      if missing > DUST then wait = math.max(wait, missing / bucket.rate) end
      start = math.max(start, (cost - bucket.balance) / bucket.rate)
      slot = math.max(slot, cost / bucket.rate)
      if missing > 0 or cost > bucket.balance then bucket.busy, saturated = true, 1 end
    end
  end
  -- A call that would wait longer is parked, and asks again when the slot is near.
  if wait == 0 and start > max_wait and not reserves and lane ~= 'urgent' then wait = start end
  if wait > 0 then break end
  local weight = UNLIMITED
  for i = 1, rules do
    local bucket, cost = buckets[i], tonumber(ARGV[cursor + 2 + i])
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
  if woken ~= '' then
    redis.call('ZREM', coming, woken)
  elseif parked > 0 then
    charge(turns, sender, weight)
  end
  granted[#granted + 1] = math.ceil(start * 1000000)
  cursor = cursor + 3 + rules
end

local function grow(bucket)
  if bucket.ceiling and now >= bucket.retry then
    bucket.ceiling, bucket.climbs = nil, now
    redis.call('HDEL', bucket.key, 'ceiling')
  end
  local goal = bucket.ceiling or math.max(bucket.first, bucket.top * NEAR_TOP)
  if bucket.rate < goal then
    local climbed = math.min(QUICKEST, math.max(0, now - bucket.climbs) / 1000000)
    local seconds = math.min(1, (now - bucket.grown) / 1000000)
    bucket.rate = math.min(goal, bucket.rate + bucket.top * CLIMB * climbed * seconds)
  end
end

if #granted > 0 then
  if first.unheard == 0 then first.since = now end
  first.unheard = first.unheard + #granted
  if hushed then first.hush = now + silent end
  for _, breaker in ipairs(open) do
    redis.call('HSET', breaker.key, 'probe', now + granted[1] + patience, 'left', now + granted[1],
      'ahead', granted[1])
  end
end

for i = 1, rules do
  local bucket = buckets[i]
  if bucket.busy and not bucket.half_open and bucket.top > bucket.first then grow(bucket) end
  local function write(...)
    redis.call('HSET', bucket.key, 'balance', bucket.balance, 'at', now, 'rate', bucket.rate,
      'grown', now, 'aged', bucket.aged, 'calls', bucket.calls, 'climbs', bucket.climbs, ...)
  end
  if i == 1 then write(answers_of_calls()) else write() end
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

return {granted, math.ceil(wait * 1000000), probing, 0, saturated, parked,
  math.ceil(slot * 1000000), '', sick == 1 and 1 or hushed and 1 or 0, trial, ''}
