-- Redis's time, which is the same for all processes.

-- A time as Redis gives it, in ms since the epoch; the present one if none is given.
local function milliseconds(clock)
  clock = clock or redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- The same in us; `known` instead, which a test brings.
local function microseconds(known)
  if known then return known end
  local clock = redis.call('TIME')
  return clock[1] * 1000000 + clock[2]
end
