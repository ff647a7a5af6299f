-- A worker puts down what a fetch of an app's access token brought.
-- Answers the generation, or 0 if another worker fetches by now: then the value is not kept.
local now = milliseconds()
local stored_value, stored_generation, fetcher = unpack(
  redis.call('HMGET', token, 'value', 'generation', 'fetcher'), 1, 3)
local generation = tonumber(stored_generation or 0)
if fetcher ~= worker then
  -- The first answer to this very call may have been lost, and DingTalk gives all the same token.
  return stored_value and stored_value == value and generation or 0
end
redis.call('HDEL', token, 'fetcher', 'until')
if not value then
  if error then redis.call('SET', failure, error, 'PX', math.max(1, validity)) end
  return generation
end
local ends = now + validity
-- The time keeps generations apart beyond the life of the key.
generation = math.max(now, generation + 1)
redis.call('HSET', token, 'value', value, 'expires', ends, 'generation', generation)
redis.call('PEXPIREAT', token, ends)
return generation
