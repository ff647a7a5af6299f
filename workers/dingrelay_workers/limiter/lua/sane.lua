-- Tell the fleet of a sane answer: the breakers before it close, and the rate climbs from a quarter.
--
-- KEYS: breaker of the API, breaker of the host, hold of the app, open breakers, bucket of its calls
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 1 if the call was a probe, 3 top rate (calls/s; 0: it can't climb)
--       4 us for which a climb has lasted that begins as quickly as one can
--       5 ms for which the host remembers that it closed
--
-- Answers which have closed: api, host, hold.

local now = microseconds(ARGV[1])
local trial, top, head_start, kept = ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local news = {}

local function close(key, name)
  local opened = redis.call('HEXISTS', key, 'opened') == 1
  redis.call('DEL', key)
  if opened then
    redis.call('ZREM', KEYS[4], key)
    news[#news + 1] = name
  end
  return opened
end

local bucket = redis.call('EXISTS', KEYS[5]) == 1
if close(KEYS[1], 'api') and bucket and top > 0 then
  redis.call('HSET', KEYS[5], 'rate', top / 4, 'grown', now, 'climbs', now - head_start,
    'reopened', now)
end
if redis.call('HEXISTS', KEYS[2], 'sick') == 1 and close(KEYS[2], 'host') then
  redis.call('HSET', KEYS[2], 'closed', now)
  redis.call('PEXPIRE', KEYS[2], kept)
end
-- A token from before may be good while the credentials are refused: only a probe shows more.
if trial then close(KEYS[3], 'hold') end
if bucket then redis.call('HSET', KEYS[5], 'unheard', 0, 'since', 0, 'hush', 0) end
return news
