-- What the scripts of an endpoint's gate share; it is put before them, behind `places.lua`.
--
-- gate     `failures` in a row, `since` and `failed` when the first and the last were, its `code`,
--          `taken` when the endpoint took the last notice; `level` and `until`: while its breaker is
--          open, how often it opened in a row, and when the next delivery may try (ms)
-- places   delivery → until when it has one of the endpoint's places (ms)
-- waiting  delivery → since when it waits (ms)
-- failed   delivery → when it failed: they come back at once when the breaker closes
local gate, places, waiting, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local LOOKED_AT = 50

-- How often in a row the breaker opened, and when the next delivery may try. A server's clock that has stepped
-- back since the last failure would keep it open for as long as that.
local function breaker()
  local known = redis.call('HMGET', gate, 'level', 'until', 'failed')
  return tonumber(known[1] or 0), tonumber(known[3] or 0) > now and 0 or tonumber(known[2] or 0)
end

-- How many deliveries may begin now: none while the breaker is open, one to try, else what is free.
local function room(most)
  redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
  local level, opens = breaker()
  if opens > now then return 0 end
  if level > 0 then most = 1 end
  return most - redis.call('ZCARD', places)
end

-- Have so many of those that wait looked at now. Answers the wake-ups to publish.
local function wake(most)
  local woken = {}
  if most < 1 then return woken end
  for _, id in ipairs(redis.call('ZRANGE', waiting, 0, LOOKED_AT - 1)) do
    local delivery = redis.call('HMGET', JOB .. id, 'state', 'queue', 'kind', 'app', 'lane', 'summary')
    if delivery[1] == 'snoozed' or delivery[1] == 'retrying' then
      redis.call('ZREM', waiting, id)
      take_out(id, delivery[2])
      redis.call('HSET', JOB .. id, 'due', now, 'woken', now)
      place_woken(id, delivery[2], now)
      woken[#woken + 1] = {id, delivery[3], delivery[2], delivery[4], delivery[5], delivery[6], now}
      if #woken == most then break end
    elseif delivery[1] ~= 'running' then
      -- It has ended. One that runs is just about to wait, or to ask anew.
      redis.call('ZREM', waiting, id)
    end
  end
  return woken
end

