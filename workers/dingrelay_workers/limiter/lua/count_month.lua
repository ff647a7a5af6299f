-- Adds what a process has counted to the month. A report that is repeated, or that a failover has taken back, adds only
-- what is missing.
for _, count in ipairs(counts) do
  local field = process .. ' ' .. count.counter
  local missing = count.total - (tonumber(redis.call('HGET', reports, field)) or 0)
  redis.call('HINCRBY', month, count.counter, missing)
  redis.call('HINCRBY', month, count.counter .. ':' .. day, missing)
  redis.call('HSET', reports, field, count.total)
end
redis.call('PEXPIRE', month, month_ttl)
redis.call('PEXPIRE', reports, reports_ttl)
