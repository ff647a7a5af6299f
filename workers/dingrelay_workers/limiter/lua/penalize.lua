-- Judge a throttling answer: a stray throttle, or a reason to pause for every worker at once.
--
-- Answers the time to the end of the pause (us; 0 for none), and 1 if this answer caused it.
--
-- Calls leave evenly but arrive unevenly. At a rate just below the limit now and then one arrives
-- too many in a second: a stray throttle. It costs that call a second and says little; a pause of 1
-- s would cost twenty. How many stray throttles are to be expected depends on how DingTalk counts,
-- which is not documented. By calendar seconds or with a bucket they are rare even close to the
-- limit. Over the last second, whichever that is, they are frequent as soon as the rate is beyond
-- limit / (window + spread), and none happens below. So: up to the first kind's number, stray
-- throttles are borne; beyond it the rate steps down to where there are none, and tries again much
-- later. Refusals in a row mean neither: the limit fell, or other software uses it. Then all pause.

local AT_ONCE = 1000000      -- us within which throttles count as one: they were in flight together
local REPEATED = 10000000    -- us after a pause within which the next throttle doubles it
local LONGEST = 60000000     -- us a doubled pause may last, unless twice what was asked is longer
local CUT = 0.7              -- what is left of the rate after a pause
local HALVED = 0.5           -- the same where calls flowed at the full limit: it must have fallen far

-- One point of drift a stray throttle. They fade with calls, the faster the more slots the ways
-- differ by (`slack`): twice as fast as a calendar window brings stray throttles at the highest
-- rate that acquire.lua allows.
local FADE = 0.007           -- of the drift score, a call and slot of slack
local DRIFT_THRESHOLD, DRIFT_THRESHOLD_SLACK = 0.3, 2.0  -- borne, and more a slot of slack

local FEW = 20               -- calls that show nothing yet, however low the limit
local ROUNDED = 1000000      -- us by which the end of a limit in an answer may be too late
local COOL = 0.15            -- of a refusal, a call: three of five calls are refusals in a row
local BURST_THRESHOLD = 2.3
local STEP, FAR_STEP = 0.985, 0.95  -- steps down where there should be no stray throttles,
local FAR = 0.85                    -- the second below this share of it: the limit is another one
local HOLD = 60000000        -- us until the rate climbs again after a step down,
local FAR_HOLD = 15000000    -- and where the limit is another one: it may come back

local now = microseconds(time_us)
local field = {unpack(read_bucket(bucket, now, 'penalized', 'paused', 'asked', 'level', 'half_open',
  'rate', 'calls', 'judged', 'proven', 'drift_score', 'burst_score'), 3, 13)}
local penalized, paused = tonumber(field[1]) or 0, tonumber(field[2]) or 0
local asked_pause, level = tonumber(field[3]) or 0, tonumber(field[4]) or 0
local half_open, rate = field[5] == '1', tonumber(field[6]) or first
local calls, proven = tonumber(field[7]) or 0, tonumber(field[9]) or 0
redis.call('HINCRBY', bucket, 'throttles', 1)

local slack, safe = spread * rate, top / (1 + spread / window)
local since = calls - (tonumber(field[8]) or 0)
local drift_score = math.max(0, (tonumber(field[10]) or 0) - since * FADE * slack) + 1
local burst_score = math.max(0, (tonumber(field[11]) or 0) - since * COOL) + 1

-- A limit's worth of calls went well at this rate, and the limit is over with its window.
local trusted = top > first and not half_open and calls - proven >= math.max(FEW, top * window)
  and pause <= window * 1000000 + ROUNDED

local effect = false
if trusted and burst_score <= BURST_THRESHOLD then
  if drift_score > DRIFT_THRESHOLD + DRIFT_THRESHOLD_SLACK * slack then
    drift_score = 0
    local far = rate <= FAR * safe
    local ceiling = math.max(top / 4, math.min(safe, rate * (far and FAR_STEP or STEP)))
    redis.call('HSET', bucket, 'ceiling', ceiling, 'rate', ceiling, 'grown', now,
      'retry', now + (far and FAR_HOLD or HOLD))
  end
else
  effect = paused <= now and (now - penalized >= AT_ONCE or penalized > now)
end

if effect then
  level = (now - paused <= REPEATED) and level + 1 or 1
  paused = now + math.min(pause * 2 ^ (level - 1), math.max(LONGEST, 2 * pause))
  redis.call('HSET', bucket, 'penalized', now, 'paused', paused, 'asked', pause, 'level', level,
    'reason', reason, 'half_open', 1, 'probe', 0)
elseif pause > asked_pause and not trusted then
  paused = math.max(paused, now + pause)
  redis.call('HSET', bucket, 'paused', paused, 'asked', pause, 'reason', reason, 'half_open', 1)
end

-- A throttled probe says nothing of the rate: nothing else was under way.
if effect and top > first and not half_open then
  local cut = (trusted and rate > FAR * safe) and HALVED or CUT
  redis.call('HDEL', bucket, 'ceiling')
  redis.call('HSET', bucket, 'rate', math.max(top / 4, rate * cut), 'grown', now,
    'climbs', paused, 'proven', calls)
  drift_score, burst_score = 0, 0
end
if paused > now then redis.call('HINCRBY', bucket, 'voids', 1) end
redis.call('HSET', bucket, 'judged', calls, 'drift_score', drift_score, 'burst_score', burst_score)

redis.call('ZADD', index, math.floor(now / 1000), bucket)
redis.call('PEXPIRE', index, 2 * ttl)
keep_bucket(bucket, ttl + math.max(0, math.floor((paused - now) / 1000)))
return {math.max(0, math.ceil(paused - now)), effect and 1 or 0}
