-- Renews what a worker holds, and puts back all else: marks of which it knows nothing, and what workers had taken
-- that renewed theirs no longer.
local now = milliseconds()

-- A Redis that is full lets only a script that has written go on writing.
redis.call('PERSIST', registry)
for _, list in ipairs(lists) do redis.call('ZADD', registry, now + lease, list) end
if redis.call('EXISTS', marks) == 1 then
  local held = {}
  for _, tag in ipairs(tags) do held[tag] = true end
  redis.call('ZADD', registry, now + lease, marks)
  put_back_marks(marks, held)
end
for _, place in ipairs(redis.call('ZRANGE', registry, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
  put_back(place)
  redis.call('ZREM', registry, place)
end
