-- Renew the leases of the jobs that a worker runs.
-- KEYS: schedule, record...
-- ARGV: lease (ms), then id and fence of each record
-- Answers the ids that this worker no longer owns.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local expiry = now + tonumber(ARGV[1])
local lost = {}
for index = 2, #KEYS do
  local id, fence = ARGV[2 * index - 2], ARGV[2 * index - 1]
  local held = redis.call('HMGET', KEYS[index], 'state', 'fence')
  if held[1] == 'running' and held[2] == fence then
    redis.call('HSET', KEYS[index], 'lease', expiry)
    redis.call('ZADD', KEYS[1], expiry, id)
  else
    table.insert(lost, id)
  end
end
return lost
