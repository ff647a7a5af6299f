-- Tell the fleet of a sane answer: the breakers before it close, and the rate climbs from a quarter.
--
-- KEYS: breaker of the API, breaker of the host, hold of the app, open breakers, bucket of its calls
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 1 if the call was a probe, 3 top rate (calls/s; 0: it can't climb)
--       4 us for which a climb has lasted that begins as quickly as one can
--       5 ms for which the host remembers that it closed
--
-- Answers which have closed: api, host, hold.

local api, host, hold, open, bucket = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = microseconds(ARGV[1])
local trial, top, head_start, kept = ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local news = {}

local function close(key, name)
  local opened = redis.call('HEXISTS', key, 'opened') == 1
  redis.call('DEL', key)
  if opened then
    redis.call('ZREM', open, key)
    news[#news + 1] = name
  end
  return opened
end

local known = redis.call('EXISTS', bucket) == 1
if close(api, 'api') and known and top > 0 then
  redis.call('HSET', bucket, 'rate', top / 4, 'grown', now, 'climbs', now - head_start,
    'reopened', now)
end
if redis.call('HEXISTS', host, 'sick') == 1 and close(host, 'host') then
  redis.call('HSET', host, 'closed', now)
  redis.call('PEXPIRE', host, kept)
end
-- A token from before may be good while the credentials are refused: only a probe shows more.
if trial or redis.call('HEXISTS', hold, 'opened') == 0 then
  -- What else was refused with it tries at once, as after an outage of the host.
  if close(hold, 'hold') then
    redis.call('HSET', host, 'closed', now)
    redis.call('PEXPIRE', host, kept)
  end
end
if known then redis.call('HSET', bucket, 'unheard', 0, 'since', 0, 'hush', 0) end
return news
