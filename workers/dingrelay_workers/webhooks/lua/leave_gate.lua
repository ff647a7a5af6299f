-- A delivery gives its place back, and tells what came of it.
-- KEYS: as `gate.lua`
-- ARGV: delivery, most places, verdict (taken | failed, or '' for neither), code, failures in a row
--       that open the breaker, pause of a breaker that opens for the first time, longest pause, how
--       long the endpoint asked to be left alone, a random number below 1, ttl of the gate, of who
--       failed (times in ms)
-- Answers {1 if the breaker opened now, the wake-ups to publish}.
local id, most, verdict, code, needed = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local first, longest, rest = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local chance, gate_ttl, failed_ttl = tonumber(ARGV[9]), ARGV[10], ARGV[11]

redis.call('ZREM', places, id)
if redis.call('HEXISTS', gate, 'removed') == 1 then return {0, {}} end
local level, opens = breaker()
local opened = 0
if verdict == 'taken' then
  redis.call('HDEL', gate, 'failures', 'since', 'failed', 'code', 'level', 'until')
  redis.call('HSET', gate, 'taken', now)
  redis.call('ZREM', failed, id)
  if level > 0 then
    redis.call('ZUNIONSTORE', waiting, 2, waiting, failed, 'AGGREGATE', 'MIN')
    redis.call('PEXPIRE', waiting, failed_ttl)
    redis.call('DEL', failed)
  end
elseif verdict == 'failed' then
  local failures = redis.call('HINCRBY', gate, 'failures', 1)
  redis.call('HSETNX', gate, 'since', now)
  redis.call('HSET', gate, 'failed', now, 'code', code)
  redis.call('ZADD', failed, now, id)
  redis.call('PEXPIRE', failed, failed_ttl)
  -- Those that were under way when it opened tell nothing new.
  if failures >= needed and opens <= now then
    local pause = math.min(longest, first * 2 ^ math.min(level, 30))
    level, opens = level + 1, now + math.floor(pause * (1 + chance) / 2)
    opened = level == 1 and 1 or 0
  end
  if rest > 0 then level, opens = math.max(level, 1), math.max(opens, now + rest) end
  if level > 0 then redis.call('HSET', gate, 'level', level, 'until', opens) end
end
if redis.call('EXISTS', gate) == 1 then redis.call('PEXPIRE', gate, gate_ttl) end
return {opened, wake(room(most))}
