-- Share a reading of how far DingTalk's clock is ahead of this server's, where there is one, and read the fleet's.
-- Answers the time here (ms), and how far DingTalk's clock is ahead of it at least and at most (ms) if there is a reading.
--
-- The key holds both bounds, `at`, when the latest answer came that they follow from, and the history of the
-- data: after a failover another server's clock shows the time.
local fields = redis.call('HMGET', reading, 'low', 'high', 'at', 'history')
local low, high, at = tonumber(fields[1]), tonumber(fields[2]), tonumber(fields[3])
local present = (at or own_low) and history() or ''

-- One from the future is from before this clock was set back.
if at and (fields[4] ~= present or at > now or now - at > ttl) then low, high, at = nil, nil, nil end

if own_low then
  local own_at = now - own_age
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
  redis.call('HSET', reading, 'low', string.format('%.3f', low), 'high', string.format('%.3f', high),
    'at', string.format('%.0f', at), 'history', present)
  redis.call('PEXPIRE', reading, ttl)
end

if not at then return {now} end
local apart = (now - at) * drift
return {now, math.floor(low - apart), math.ceil(high + apart)}
