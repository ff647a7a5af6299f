-- A worker takes an app's access token, or the turn to fetch a new one.
-- Answers {what, value, generation, ms left}; what: use | refresh | fetch | wait | failed. `refresh`: use the value and
-- fetch a new one. `wait`: another worker fetches. `failed`: a fetch failed a short while ago, and the value is its error.
local now = milliseconds()
local value, stored_generation, expires, fetcher, lease_end = unpack(
  redis.call('HMGET', token, 'value', 'generation', 'expires', 'fetcher', 'until'), 1, 5)
local generation = tonumber(stored_generation or 0)

-- A token that DingTalk called invalid goes, but only that generation: it may be replaced by now.
if value and distrusted == generation then
  redis.call('HDEL', token, 'value', 'expires')
  value = nil
end
local remaining_ms = value and tonumber(expires) - now or 0
-- The generation is about when it was fetched: a token that lives shorter than twice the margin
-- would be fetched again on each request.
if value then margin = math.max(0, math.min(margin, (tonumber(expires) - generation) / 2)) end
if remaining_ms > margin then return {'use', value, generation, remaining_ms} end
local error = redis.call('GET', failure)
if error then
  if remaining_ms > 0 then return {'use', value, generation, remaining_ms} end
  return {'failed', error, generation, redis.call('PTTL', failure)}
end

-- A lease that ends later than it could is from before the server's clock stepped back.
local leased = tonumber(lease_end or 0) - now
if fetcher and fetcher ~= worker and leased > 0 and leased <= lease then
  if remaining_ms > 0 then return {'use', value, generation, remaining_ms} end
  return {'wait', '', generation, leased}
end
redis.call('HSET', token, 'fetcher', worker, 'until', now + lease)
redis.call('PEXPIRE', token, math.max(remaining_ms, lease))
if remaining_ms > 0 then return {'refresh', value, generation, remaining_ms} end
return {'fetch', '', generation, 0}
