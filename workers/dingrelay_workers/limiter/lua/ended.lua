-- A call is over, and was not throttled or failed, or it was slow.
--
-- Answers which breakers have closed: api, host, hold.

local now, news = microseconds(time_us), {}

local function open_bucket(bucket)
  local field = read_bucket(bucket, now, 'half_open', 'paused', 'level')
  -- A bucket that was paused again while the probe was under way stays so.
  if field[3] == '1' and (tonumber(field[4]) or 0) <= now then
    redis.call('HDEL', bucket, 'half_open', 'probe')
    redis.call('HSET', bucket, 'level', math.max(0, (tonumber(field[5]) or 0) - 1))
  end
end

local function close(key, name)
  local opened = close_breaker(key, now)
  if opened then news[#news + 1] = name end
  return opened
end

-- Other calls that failed or were refused with it try at once.
local function remember_closed()
  redis.call('HSET', host, 'closed', now)
  redis.call('PEXPIRE', host, remembered)
end

local function close_breakers(bucket)
  local has_bucket = redis.call('EXISTS', bucket) == 1
  if close(api, 'api') and has_bucket and top > 0 then
    redis.call('HSET', bucket, 'rate', top / 4, 'grown', now, 'climbs', now - head_start,
      'reopened', now)
  end
  if redis.call('HEXISTS', host, 'sick') == 1 and close(host, 'host') then remember_closed() end
  -- A token from before may be good while the credentials are refused: only a probe shows more.
  if trial or redis.call('HEXISTS', hold, 'opened') == 0 then
    if close(hold, 'hold') then remember_closed() end
  end
  if has_bucket then redis.call('HSET', bucket, 'unheard', 0, 'since', 0, 'hush', 0) end
end

-- A call that arrived long after its slot counts in the window of its arrival, too: so many tokens go, whether they are
-- there or not. What is reserved from here on was counted without it, and is void.
local function charge_again(bucket)
  local field = read_bucket(bucket, now)
  redis.call('HSET', bucket, 'balance', refilled(field[1], field[2], burst, rate, now) - tokens, 'at', now)
  redis.call('HINCRBY', bucket, 'voids', 1)
  -- The call that took a slot of it has renewed that of an older one.
  if not field[2] then redis.call('PEXPIRE', bucket, ttl, 'NX') end
end

if probed then
  for _, bucket in ipairs(buckets) do open_bucket(bucket) end
end
if sane then close_breakers(buckets[1]) end
if charged then charge_again(buckets[charged]) end
return news
