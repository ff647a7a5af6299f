-- Let the deliveries of an endpoint that is removed end: those that wait for it are due now.
-- KEYS: as `gate.lua`
-- ARGV: most deliveries at once, ttl of the mark that it is removed (ms)
-- Answers how many still wait.
--
-- A delivery that found the endpoint a moment ago comes to wait after this: the mark tells it. One that
-- still runs is just about to wait, and is left for the next time.
local most, mark_ttl = tonumber(ARGV[1]), ARGV[2]
redis.call('DEL', gate, places)
redis.call('HSET', gate, 'removed', now)
redis.call('PEXPIRE', gate, mark_ttl)
local left = 0
for _, place in ipairs({waiting, failed}) do
  for _, id in ipairs(redis.call('ZRANGE', place, 0, most - 1)) do
    local delivery = redis.call('HMGET', JOB .. id, 'state', 'queue')
    if delivery[1] ~= 'running' or place == failed then redis.call('ZREM', place, id) end
    if delivery[1] and waits(delivery[1]) then
      take_out(id, delivery[2])
      redis.call('HSET', JOB .. id, 'due', now, 'woken', 0)
      place_until(id, now)
    end
  end
  left = left + redis.call('ZCARD', place)
end
return left
