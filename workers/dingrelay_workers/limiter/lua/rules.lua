-- Buckets of rules: how a bucket fills, and what follows from a server's clock that steps back.
--
-- A bucket is the generic cell rate algorithm: `balance` tokens at time `at`, at most `burst`, below zero where
-- coming slots are reserved. A call starts when the balance has covered it.

-- Move a bucket's moments back with the clock: else nothing would refill, and no pause would end,
-- until the clock has come back to where it was. Returns whether it had to.
local function follow_clock(key, at, us)
  at = tonumber(at)
  if not at or at <= us then return false end
  local MOMENTS = {
    'at', 'grown', 'climbs', 'retry', 'paused', 'penalized', 'probe', 'aged', 'noted', 'since', 'hush',
    'tail:urgent', 'tail:normal', 'tail:bulk', 'next:urgent', 'next:normal', 'next:bulk',
  }
  local values = redis.call('HMGET', key, unpack(MOMENTS))
  for index, name in ipairs(MOMENTS) do
    local value = tonumber(values[index])
    if value and value > 0 then redis.call('HSET', key, name, math.max(0, value - (at - us))) end
  end
  return true
end

-- The fields of a bucket, the second of which is `at`.
local function read_bucket(key, us, ...)
  local field = redis.call('HMGET', key, 'balance', 'at', ...)
  if follow_clock(key, field[2], us) then field = redis.call('HMGET', key, 'balance', 'at', ...) end
  return field
end

-- The rate of a bucket (tokens/s; 0: no limit).
local function present_rate(first, top, known)
  if top <= first then return first end
  return math.max(top / 4, math.min(top, tonumber(known) or first))
end

-- A limit as its bucket stands.
local function read_rule(key, us, limit)
  local field = read_bucket(key, us, 'rate', 'paused', 'reason')
  return {
    burst = limit.burst, first = limit.first, rate = present_rate(limit.first, limit.top, field[3]), paused = tonumber(field[4]) or 0,
    reason = field[5], recipients = string.sub(key, -11) == ':recipients',
  }
end

-- The tokens of a bucket that had so many at a time; a new one is full.
local function refilled(balance, at, burst, rate, us)
  local elapsed = math.max(0, us - (tonumber(at) or us))
  return math.min(burst, (tonumber(balance) or burst) + elapsed * rate / 1000000)
end

-- Keep a bucket for so long (ms) from now on at least.
local function keep_bucket(key, ttl)
  redis.call('PEXPIRE', key, ttl, 'NX')
  redis.call('PEXPIRE', key, ttl, 'GT')
end
