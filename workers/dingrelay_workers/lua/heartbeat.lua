-- Renew the leases of the jobs that a worker runs.
-- KEYS: schedule, record...
-- ARGV: lease (ms), then id, owner and fence of each record
-- Answers the owners that own their job no longer.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local expiry = now + tonumber(ARGV[1])
local lost = {}
for index = 2, #KEYS do
  local id, owner, fence = ARGV[3 * index - 4], ARGV[3 * index - 3], ARGV[3 * index - 2]
  local known = redis.call('HMGET', KEYS[index], 'state', 'owner', 'fence')
  if known[1] == 'running' and known[2] == owner and known[3] == fence then
    redis.call('HSET', KEYS[index], 'lease', expiry)
    redis.call('ZADD', KEYS[1], expiry, id)
  else
    table.insert(lost, owner)
  end
end
return lost
