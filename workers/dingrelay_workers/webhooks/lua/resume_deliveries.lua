-- Wake deliveries that wait for their endpoint and that nobody else will wake: a breaker's time to try
-- has come, or a worker died in the midst.
-- KEYS: as `gate.lua`
-- ARGV: most places, 1 to close the breaker first
-- Answers {gate's fields and values, the wake-ups to publish}.
local most, close = tonumber(ARGV[1]), ARGV[2] == '1'
if close then
  redis.call('HDEL', gate, 'failures', 'since', 'failed', 'code', 'level', 'until')
  if redis.call('EXISTS', failed) == 1 then
    redis.call('ZUNIONSTORE', waiting, 2, waiting, failed, 'AGGREGATE', 'MIN')
    redis.call('PEXPIRE', waiting, redis.call('PTTL', failed))
    redis.call('DEL', failed)
  end
end
return {redis.call('HGETALL', gate), wake(room(most))}
