-- An app's access token: a worker takes it, or the turn to fetch a new one; and puts down what a fetch brought.
-- KEYS: token, failure of these credentials
-- ARGV: take, worker, refresh margin, fetch lease, generation to distrust or 0 (ms); or
--       put, worker, value ('' for a failure), validity of the token or the failure (ms), failure
-- Answers to take {what, value, generation, ms left}; what: use | refresh | fetch | wait | failed.
-- `refresh`: use the value and fetch a new one. `wait`: another worker fetches. `failed`: a fetch failed a short
-- while ago, and the value is its error. To put the generation, or 0 if another worker fetches by now: then the
-- value is not kept.
local key, failed, verb, worker = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local value, known_generation, expires, fetcher, lease_end = unpack(
  redis.call('HMGET', key, 'value', 'generation', 'expires', 'fetcher', 'until'), 1, 5)
local generation = tonumber(known_generation or 0)

local function take(margin, lease, distrusted)
  -- A token that DingTalk called invalid goes, but only that generation: it may be replaced by now.
  if value and distrusted == generation then
    redis.call('HDEL', key, 'value', 'expires')
    value = nil
  end
  local left = value and tonumber(expires) - now or 0
  -- The generation is about when it was fetched: a token that lives shorter than twice the margin
  -- would be fetched again on each request.
  if value then margin = math.max(0, math.min(margin, (tonumber(expires) - generation) / 2)) end
  if left > margin then return {'use', value, generation, left} end
  local failure = redis.call('GET', failed)
  if failure then
    if left > 0 then return {'use', value, generation, left} end
    return {'failed', failure, generation, redis.call('PTTL', failed)}
  end

  -- A lease that ends later than it could is from before the server's clock stepped back.
  local leased = tonumber(lease_end or 0) - now
  if fetcher and fetcher ~= worker and leased > 0 and leased <= lease then
    if left > 0 then return {'use', value, generation, left} end
    return {'wait', '', generation, leased}
  end
  redis.call('HSET', key, 'fetcher', worker, 'until', now + lease)
  redis.call('PEXPIRE', key, math.max(left, lease))
  if left > 0 then return {'refresh', value, generation, left} end
  return {'fetch', '', generation, 0}
end

local function put(fetched, validity, failure)
  if fetcher ~= worker then
    -- The first answer to this very call may have been lost, and DingTalk gives all the same token.
    return value == fetched and generation or 0
  end
  redis.call('HDEL', key, 'fetcher', 'until')
  if fetched == '' then
    if failure ~= '' then redis.call('SET', failed, failure, 'PX', math.max(1, validity)) end
    return generation
  end
  local ends = now + validity
  -- The time keeps generations apart beyond the life of the key.
  generation = math.max(now, generation + 1)
  redis.call('HSET', key, 'value', fetched, 'expires', ends, 'generation', generation)
  redis.call('PEXPIREAT', key, ends)
  return generation
end

if verb == 'take' then return take(tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])) end
return put(ARGV[3], tonumber(ARGV[4]), ARGV[5])
