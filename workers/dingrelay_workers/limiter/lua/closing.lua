-- Breakers that close, and what is remembered of the outages that are over.

-- Close a breaker at a moment (us): whether it stood open.
local function close_breaker(key, us)
  local field = redis.call('HMGET', key, 'opened', 'reason')
  redis.call('DEL', key)
  if not field[1] then return false end
  redis.call('ZREM', BREAKERS, key)
  redis.call('ZADD', ENDED_OUTAGES, us, table.concat({key, field[1], field[2] or ''}, '\n'))
  redis.call('ZREMRANGEBYSCORE', ENDED_OUTAGES, '-inf', us - ENDED_OUTAGES_TTL * 1000)
  redis.call('PEXPIRE', ENDED_OUTAGES, ENDED_OUTAGES_TTL)
  return true
end
