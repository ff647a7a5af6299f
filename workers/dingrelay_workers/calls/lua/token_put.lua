-- Keep what a fetch brought: a token, or how it failed.
-- KEYS: token, failure of these credentials
-- ARGV: worker, value ('' for a failure), validity of the token or the failure (ms), failure
-- Answers the generation, or 0 if another worker fetches by now: then the value is not kept.
local key, failed = KEYS[1], KEYS[2]
local worker, value, validity, failure = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('HMGET', key, 'fetcher', 'value', 'generation')
local generation = tonumber(known[3] or 0)
if known[1] ~= worker then
  -- The first answer to this very call may have been lost, and DingTalk gives all the same token.
  return known[2] == value and generation or 0
end
redis.call('HDEL', key, 'fetcher', 'until')
if value == '' then
  if failure ~= '' then redis.call('SET', failed, failure, 'PX', math.max(1, validity)) end
  return generation
end
local ends = now + tonumber(validity)
-- The time keeps generations apart beyond the life of the key.
generation = math.max(now, generation + 1)
redis.call('HSET', key, 'value', value, 'expires', ends, 'generation', generation)
redis.call('PEXPIREAT', key, ends)
return generation
