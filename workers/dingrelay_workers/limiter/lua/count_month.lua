-- Adds what a process has counted to the month. A report that is repeated, or that a failover has taken back, adds only
-- what is missing.
-- KEYS: the month's counters, what processes have reported of a day.
-- ARGV: TTLs of both in ms, the day, the process, then pairs: a counter, what the process has counted on that day.
local month, reports = KEYS[1], KEYS[2]
local day, process = ARGV[3], ARGV[4]
for pair = 5, #ARGV, 2 do
  local counter, total = ARGV[pair], tonumber(ARGV[pair + 1])
  local field = process .. ' ' .. counter
  local missing = total - (tonumber(redis.call('HGET', reports, field)) or 0)
  redis.call('HINCRBY', month, counter, missing)
  redis.call('HINCRBY', month, counter .. ':' .. day, missing)
  redis.call('HSET', reports, field, total)
end
redis.call('PEXPIRE', month, ARGV[1])
redis.call('PEXPIRE', reports, ARGV[2])
