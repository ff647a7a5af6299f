-- Estimate when the turn of a job comes that can't wait in its process, and read what its sender has had.
--
-- Answers the time until then (us), the reason of a pause, if there is one, and what the sender has had.
-- The time is a guess, since others may come: whose turn it is is decided when a slot comes
-- (`wake_parked.lua`).

local CARRIED = 100  -- recipients of one call, where no rule allows fewer

local now, calls, end_of_lane = microseconds(time_us), buckets[1], 'tail:' .. lane

read_bucket(calls, now)
local fields = redis.call('HMGET', calls, end_of_lane, 'next:' .. lane)
local tail, due = tonumber(fields[1]) or 0, math.max(now, tonumber(fields[2]) or 0)
local reason, seconds, of_recipients, weight, carried = '', 0, 0, UNLIMITED, CARRIED

for i, bucket in ipairs(buckets) do
  local rule, cost = read_rule(bucket, now, limits[i]), costs[i]
  if rule.paused > due then due, reason = rule.paused, rule.reason end
  if rule.rate > 0 then
    seconds, weight = math.max(seconds, cost / rule.rate), math.max(weight, cost / rule.first)
    if rule.recipients then of_recipients, carried = cost / rule.rate, math.min(carried, rule.burst) end
  end
end

-- Jobs of a sender that one call can carry cost their recipients, but no call.
local function shares_call()
  if not shared then return false end
  local recipients_taken = tonumber(redis.call('HGET', shared, lane .. ' ' .. sender) or 0)
  local fits = tail > now and recipients_taken > 0 and recipients_taken + recipients <= carried
  redis.call('HSET', shared, lane .. ' ' .. sender, (fits and recipients_taken or 0) + recipients)
  redis.call('PEXPIRE', shared, ttl)
  return fits
end

if not woken or tail <= now then
  tail = math.max(tail, due) + (shares_call() and of_recipients or seconds) * 1000000
  redis.call('HSET', calls, end_of_lane, tail)
  keep_bucket(calls, ttl + math.floor((tail - now) / 1000))
end

if woken then
  redis.call('ZREM', in_turn, woken)
  if redis.call('ZSCORE', turns, sender) then redis.call('ZINCRBY', turns, -weight, sender) end
end
local round = math.max(1, redis.call('ZCARD', turns)) * seconds * 1000000
local turn = due + (redis.call('ZCARD', parked) + 1) * round
return {math.ceil(math.min(turn, tail) - now), reason, tostring(had(turns, sender, weight))}
