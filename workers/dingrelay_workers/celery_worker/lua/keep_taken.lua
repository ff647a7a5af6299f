-- Renews what a worker holds, and puts back all else: marks of which it knows nothing, and what workers had taken
-- that renewed theirs no longer.
-- KEYS: the registry, the marks of this worker, its lists to which waits may move a message.
-- ARGV: lease in ms, the tags of the messages that it holds.
local registry, marks, lease = KEYS[1], KEYS[2], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A Redis that is full lets only a script that has written go on writing.
redis.call('PERSIST', registry)
for place = 3, #KEYS do redis.call('ZADD', registry, now + lease, KEYS[place]) end
if redis.call('EXISTS', marks) == 1 then
  local held = {}
  for tag = 2, #ARGV do held[ARGV[tag]] = true end
  redis.call('ZADD', registry, now + lease, marks)
  put_back_marks(marks, held)
end
for _, place in ipairs(redis.call('ZRANGE', registry, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
  put_back(place)
  redis.call('ZREM', registry, place)
end
