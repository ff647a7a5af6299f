-- Pause a bucket after a throttling answer, for every worker at once.
--
-- KEYS  the bucket, the index of buckets
-- ARGV  1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 milliseconds a bucket lives unused
--       3 pause that the answer asks for (us)
--       4 reason
--       5 first rate, 6 top rate (tokens/s); a rate that may not grow is not cut either
--
-- Returns the time to the end of the pause (us), and 1 if this answer had an effect.

local AT_ONCE = 1000000      -- us within which throttles count as one: they were in flight together
local REPEATED = 10000000    -- us after a pause within which the next throttle doubles it
local LONGEST = 60000000     -- us a doubled pause may last, unless twice what was asked is longer
local CUT, NUDGE = 0.7, 0.9  -- what is left of the rate; the second near a ceiling that is known
local NEAR = 0.95            -- share of the ceiling from which a single throttle is no surprise
local FAR = 0.88             -- below this share of it the ceiling fell, and lies lower still

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local ttl, pause, reason = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local first, top = tonumber(ARGV[5]), tonumber(ARGV[6])

local field = redis.call('HMGET', KEYS[1], 'penalized', 'paused', 'asked', 'level', 'half_open',
  'rate', 'ceiling')
local penalized, paused = tonumber(field[1]) or 0, tonumber(field[2]) or 0
local asked, level = tonumber(field[3]) or 0, tonumber(field[4]) or 0
redis.call('HINCRBY', KEYS[1], 'throttles', 1)

local effect = paused <= now and now - penalized >= AT_ONCE
if effect then
  level = (now - paused <= REPEATED) and level + 1 or 1
  paused = now + math.min(pause * 2 ^ (level - 1), math.max(LONGEST, 2 * pause))
  redis.call('HSET', KEYS[1], 'penalized', now, 'paused', paused, 'asked', pause, 'level', level,
    'reason', reason, 'half_open', 1, 'probe', 0)
elseif pause > asked then
  paused = math.max(paused, now + pause)
  redis.call('HSET', KEYS[1], 'paused', paused, 'asked', pause, 'reason', reason, 'half_open', 1)
end

-- A throttled probe says nothing of the rate: nothing else was under way.
if effect and top > first and field[5] ~= '1' then
  local rate, ceiling = tonumber(field[6]) or first, tonumber(field[7])
  local cut, hit = CUT, rate
  if ceiling and rate < FAR * ceiling then
    hit = rate * (1 + CUT) / 2
  elseif ceiling and rate >= NEAR * ceiling and now - penalized > REPEATED then
    cut = NUDGE
  end
  redis.call('HSET', KEYS[1], 'ceiling', hit, 'rate', math.max(top / 4, rate * cut), 'grown', now)
end

redis.call('ZADD', KEYS[2], math.floor(now / 1000), KEYS[1])
redis.call('PEXPIRE', KEYS[2], 2 * ttl)
redis.call('PEXPIRE', KEYS[1], ttl, 'NX')
redis.call('PEXPIRE', KEYS[1], ttl + math.floor((paused - now) / 1000), 'GT')
return {math.ceil(paused - now), effect and 1 or 0}
