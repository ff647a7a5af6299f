-- Read how far DingTalk's clock is ahead of this server's, and share a reading of it.
--
-- KEYS: the fleet's reading
-- ARGV: ms for which a reading is used, ms by which clocks may move apart in a ms; then, of a reading to share,
--       DingTalk's clock less this one at least and at most (ms), and how long ago it was taken (ms)
-- Answers the time here (ms), and how far DingTalk's clock is ahead of it at least (ms) if there is a reading.
--
-- The key holds both bounds, `at`, when the latest answer came that they follow from, and the history of the
-- data: after a failover another server's clock shows the time.
local key, ttl, drift = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('HMGET', key, 'low', 'high', 'at', 'history')
local low, high, at = tonumber(known[1]), tonumber(known[2]), tonumber(known[3])
local present = (at or ARGV[3]) and history() or ''

-- One from the future is from before this clock was set back.
if at and (known[4] ~= present or at > now or now - at > ttl) then low, high, at = nil, nil, nil end

if ARGV[3] then
  local own_low, own_high, own_at = tonumber(ARGV[3]), tonumber(ARGV[4]), now - tonumber(ARGV[5])
  local apart = at and math.abs(own_at - at) * drift or 0
  if at and own_at < at then
    own_low, own_high = own_low - apart, own_high + apart
  elseif at then
    low, high = low - apart, high + apart
  end
  if at and math.max(low, own_low) <= math.min(high, own_high) then
    low, high, at = math.max(low, own_low), math.min(high, own_high), math.max(at, own_at)
  elseif not at or own_at > at then
    -- They contradict one another: a clock was set, and the newer one knows.
    low, high, at = own_low, own_high, own_at
  end
  redis.call('HSET', key, 'low', string.format('%.3f', low), 'high', string.format('%.3f', high),
    'at', string.format('%.0f', at), 'history', present)
  redis.call('PEXPIRE', key, ttl)
end

if not at then return {now} end
return {now, math.floor(low - (now - at) * drift)}
