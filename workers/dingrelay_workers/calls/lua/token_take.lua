-- Read an app's token, and decide whether this worker fetches a new one.
-- KEYS: token, failure of these credentials
-- ARGV: worker, refresh margin, fetch lease, generation to distrust or 0 (ms)
-- Returns {what, value, generation, ms left}; what: use | refresh | fetch | wait | failed.
-- `refresh`: use the value and fetch a new one. `wait`: another worker fetches. `failed`: a fetch
-- failed a short while ago, and the value is its error.
local key, failed, worker = KEYS[1], KEYS[2], ARGV[1]
local margin, lease, distrusted = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('HMGET', key, 'value', 'generation', 'expires', 'fetcher', 'until')
local value, generation = known[1], tonumber(known[2] or 0)

-- A token that DingTalk called invalid goes, but only that generation: it may be replaced by now.
if value and distrusted == generation then
  redis.call('HDEL', key, 'value', 'expires')
  value = nil
end
local left = value and tonumber(known[3]) - now or 0
-- The generation is about when it was fetched: a token that lives shorter than twice the margin
-- would be fetched again on each request.
if value then margin = math.max(0, math.min(margin, (tonumber(known[3]) - generation) / 2)) end
if left > margin then return {'use', value, generation, left} end
local failure = redis.call('GET', failed)
if failure then
  if left > 0 then return {'use', value, generation, left} end
  return {'failed', failure, generation, redis.call('PTTL', failed)}
end

-- A lease that ends later than it could is from before the server's clock stepped back.
local leased = tonumber(known[5] or 0) - now
local fetched_by_another = known[4] and known[4] ~= worker and leased > 0 and leased <= lease
if fetched_by_another then
  if left > 0 then return {'use', value, generation, left} end
  return {'wait', '', generation, leased}
end
redis.call('HSET', key, 'fetcher', worker, 'until', now + lease)
redis.call('PEXPIRE', key, math.max(left, lease))
if left > 0 then return {'refresh', value, generation, left} end
return {'fetch', '', generation, 0}
