-- A call is over, and was not throttled or failed, or it was slow.
--
-- KEYS: breaker of the API, breaker of the host, hold of the app, open breakers, then one bucket per rule, the first
--       of which counts calls
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 1 if it came out of a pause: its buckets open again, and the next pause is shorter
--       3 1 if its answer was sane: the breakers before it close, and the rate climbs from a quarter,
--       4 1 if it was their probe, 5 top rate (calls/s; 0: it can't climb)
--       6 us for which a climb has lasted that begins as quickly as one can
--       7 ms for which the host remembers that it closed
--       8 the bucket that is charged again, by its number; 0 for none, 9 tokens, 10 its burst, 11 its rate
--       (tokens/s), 12 ms a bucket lives unused
--
-- Answers which breakers have closed: api, host, hold.

local api, host, hold, open = unpack(KEYS)
local now = microseconds(ARGV[1])
local probed, sane, trial = ARGV[2] == '1', ARGV[3] == '1', ARGV[4] == '1'
local top, head_start, kept = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local charged, tokens = tonumber(ARGV[8]), tonumber(ARGV[9])
local burst, rate, ttl = tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local news = {}

local function open_bucket(bucket)
  local field = read_bucket(bucket, now, 'half_open', 'paused', 'level')
  -- A bucket that was paused again while the probe was under way stays so.
  if field[3] == '1' and (tonumber(field[4]) or 0) <= now then
    redis.call('HDEL', bucket, 'half_open', 'probe')
    redis.call('HSET', bucket, 'level', math.max(0, (tonumber(field[5]) or 0) - 1))
  end
end

local function close(key, name)
  local opened = redis.call('HEXISTS', key, 'opened') == 1
  redis.call('DEL', key)
  if opened then
    redis.call('ZREM', open, key)
    news[#news + 1] = name
  end
  return opened
end

-- Other calls that failed or were refused with it try at once.
local function remember_closed()
  redis.call('HSET', host, 'closed', now)
  redis.call('PEXPIRE', host, kept)
end

local function close_breakers(bucket)
  local known = redis.call('EXISTS', bucket) == 1
  if close(api, 'api') and known and top > 0 then
    redis.call('HSET', bucket, 'rate', top / 4, 'grown', now, 'climbs', now - head_start,
      'reopened', now)
  end
  if redis.call('HEXISTS', host, 'sick') == 1 and close(host, 'host') then remember_closed() end
  -- A token from before may be good while the credentials are refused: only a probe shows more.
  if trial or redis.call('HEXISTS', hold, 'opened') == 0 then
    if close(hold, 'hold') then remember_closed() end
  end
  if known then redis.call('HSET', bucket, 'unheard', 0, 'since', 0, 'hush', 0) end
end

-- A call that arrived long after its slot counts in the window of its arrival, too: so many tokens go, whether they are
-- there or not.
local function charge_again(bucket)
  local field = read_bucket(bucket, now)
  redis.call('HSET', bucket, 'balance', refilled(field[1], field[2], burst, rate, now) - tokens, 'at', now)
  -- The call that took a slot of it has renewed that of an older one.
  if not field[2] then redis.call('PEXPIRE', bucket, ttl, 'NX') end
end

if probed then
  for index = 5, #KEYS do open_bucket(KEYS[index]) end
end
if sane then close_breakers(KEYS[5]) end
if charged > 0 then charge_again(KEYS[4 + charged]) end
return news
