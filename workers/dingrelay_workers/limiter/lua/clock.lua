-- The time, and what follows from a server's clock that steps back, for the scripts that this is put
-- before.

local MOMENTS = {
  'at', 'grown', 'climbs', 'retry', 'paused', 'penalized', 'probe', 'aged', 'noted', 'since', 'hush',
  'tail:urgent', 'tail:normal', 'tail:bulk', 'next:urgent', 'next:normal', 'next:bulk',
}

local function microseconds(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Move a bucket's moments back with the clock: else nothing would refill, and no pause would end,
-- until the clock has come back to where it was. Returns whether it had to.
local function follow_clock(key, at, us)
  at = tonumber(at)
  if not at or at <= us then return false end
  local values = redis.call('HMGET', key, unpack(MOMENTS))
  for index, name in ipairs(MOMENTS) do
    local value = tonumber(values[index])
    if value and value > 0 then redis.call('HSET', key, name, math.max(0, value - (at - us))) end
  end
  return true
end
