-- Keep what a fetch brought: a token, or DingTalk's refusal.
-- KEYS: token
-- ARGV: worker, value ('' for a refusal), validity or circuit (ms), code, message
-- Answers the generation, or 0 if another worker fetches by now: then the value is not kept.
local key = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if redis.call('HGET', key, 'fetcher') ~= ARGV[1] then return 0 end
local ends = now + tonumber(ARGV[3])
redis.call('HDEL', key, 'fetcher', 'until', 'refused', 'code', 'message')
if ARGV[2] == '' then
  if ARGV[4] ~= '' then
    redis.call('HSET', key, 'refused', ends, 'code', ARGV[4], 'message', ARGV[5])
  end
  local expires = tonumber(redis.call('HGET', key, 'expires') or 0)
  redis.call('PEXPIREAT', key, math.max(ends, expires, now + 3600000))
  return tonumber(redis.call('HGET', key, 'generation') or 0)
end
redis.call('HSET', key, 'value', ARGV[2], 'expires', ends)
redis.call('PEXPIREAT', key, ends)
return redis.call('HINCRBY', key, 'generation', 1)
