-- Give a job that can't wait here its place behind all jobs of its sender parked before it.
--
-- KEYS: one bucket per rule, then its places of the queue per rule (sender -> last place in us)
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 the queue of parked jobs: tail:LANE for a new job, again:LANE for one that came back
--       3 milliseconds a bucket lives unused
--       4 sender
--       5 numbers per rule: burst, first rate, top rate (tokens/s; 0: no limit), the job's cost
--       last: the place that it may share with others or '', recipients that it adds there
--
-- Jobs of a sender that one call can carry share a place: there they cost their recipients, but no
-- call.
--
-- Answers the time to the job's place (us) and the reason of a pause, if there is one.
--
-- Senders share the rate evenly: a sender's next place follows its own last one, at the rate
-- divided by the senders that have jobs parked there or later. One whose places reach far beyond
-- the others' has that time for itself, so nothing is kept free for those that are done by then.

local SURPLUS = 1.05   -- parked jobs come back a little faster than they leave: none leaves late
local ABREAST = 2000000  -- us by which senders that park by turns may be apart and still share
local CLIMB = 15000000   -- us after an outage within which the rate is back
local CARRIED = 100    -- recipients of one call, where no rule allows fewer
local FOLLOW = 2000000 -- us after the first of a place that the others are due: it takes them along

local now = microseconds(ARGV[1])
local queue, ttl, sender = ARGV[2], ARGV[3], ARGV[4]
local rules = #KEYS / 2

local function rule(i)
  local numbers = {}
  for field = 1, 4 do numbers[field] = tonumber(ARGV[4 * i + field]) end
  return unpack(numbers)
end

local due, reason = now, ''

local place, recipients, shared = ARGV[#ARGV - 1], tonumber(ARGV[#ARGV]), nil
local own = queue .. ' ' .. sender
if place ~= '' then
  local known = redis.call('HMGET', place, own, 'recipients:' .. own)
  local first, taken = tonumber(known[1]) or 0, tonumber(known[2]) or 0
  local carried = CARRIED
  for i = 1, rules do
    local burst, rate = rule(i)
    if string.sub(KEYS[i], -11) == ':recipients' and rate > 0 then
      carried = math.min(carried, burst)
    end
  end
  if first > now and taken + recipients <= carried then shared = first end
end

local function place_after(places, free, step)
  redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
  local last = tonumber(redis.call('ZSCORE', places, sender) or 0)
  local others = redis.call('ZCOUNT', places, math.max(last, now) - ABREAST, '+inf')
  if last == 0 then others = others + 1 end
  local place = math.max(free, last) + others * step
  redis.call('ZADD', places, place, sender)
  return place
end

local function outlive(key, until_then)
  redis.call('PEXPIRE', key, ttl, 'NX')
  redis.call('PEXPIRE', key, ttl + until_then, 'GT')
end

for i = 1, rules do
  local burst, first, top, cost = rule(i)
  if shared and string.sub(KEYS[i], -6) == ':calls' then cost = 0 end
  local at = redis.call('HGET', KEYS[i], 'at')
  if follow_clock(KEYS[i], at, now) then redis.call('DEL', KEYS[rules + i]) end
  local field = redis.call('HMGET', KEYS[i], 'balance', 'at', 'rate', 'paused', 'reason', queue,
    'reopened', 'penalized')
  local paused = tonumber(field[4]) or 0
  local free = now
  if paused > now then free, reason = paused, field[5] end
  if top > 0 and cost > 0 then
    local rate = first
    if top > first then rate = math.max(top / 4, math.min(top, tonumber(field[3]) or first)) end
    local elapsed = math.max(0, now - (tonumber(field[2]) or now))
    local balance = math.min(burst, (tonumber(field[1]) or burst) + elapsed * rate / 1000000)
    free = math.max(free, now + (math.min(cost, burst) - balance) / rate * 1000000)
    -- After an outage the rate is back in seconds: places at a quarter of it would leave most unused.
    local coming, reopened = rate, tonumber(field[7]) or 0
    if reopened > (tonumber(field[8]) or 0) and now - reopened < CLIMB then coming = math.max(rate, first) end
    free = place_after(KEYS[rules + i], free, cost / (coming * SURPLUS) * 1000000)
    redis.call('HSET', KEYS[i], queue, math.max(free, tonumber(field[6]) or 0))
    local until_then = math.floor((free - now) / 1000)
    outlive(KEYS[i], until_then)
    outlive(KEYS[rules + i], until_then)
  end
  due = math.max(due, free)
end

if shared then
  due = math.max(due, shared + FOLLOW)
  redis.call('HINCRBY', place, 'recipients:' .. own, recipients)
elseif place ~= '' then
  redis.call('HSET', place, own, due, 'recipients:' .. own, recipients)
  outlive(place, math.floor((due - now) / 1000))
end

return {math.ceil(due - now), reason}
