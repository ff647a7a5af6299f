-- Renews a worker's marks, and puts back what workers had taken that renewed theirs no longer.
-- KEYS: the registry of lists of taken messages, those of this worker.
-- ARGV: lease in ms, 1 if the worker closes: what it had taken goes back, too.
local registry, lease, closes = KEYS[1], tonumber(ARGV[1]), ARGV[2] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The newest first, so that the oldest is the next one again.
local function put_back(list)
  local queue = string.match(list, '^dingrelay:taken:[^:]*:(.*)$')
  while redis.call('LMOVE', list, queue, 'LEFT', 'RIGHT') do end
end

-- A Redis that is full lets only a script that has written go on writing.
redis.call('PERSIST', registry)
for each = 2, #KEYS do
  -- Stays after the end: a message may still be moved here for a client that has just gone.
  redis.call('ZADD', registry, now + lease, KEYS[each])
  if closes then put_back(KEYS[each]) end
end
for _, list in ipairs(redis.call('ZRANGE', registry, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
  put_back(list)
  redis.call('ZREM', registry, list)
end
