-- Renew the leases of the jobs that a worker runs.
-- KEYS: record...
-- ARGV: lease (ms), then id, owner and fence of each record
-- Answers the owners that own their job no longer.
local lease_end = now + tonumber(ARGV[1])
local lost = {}
for index = 1, #KEYS do
  local id, owner, fence = ARGV[3 * index - 1], ARGV[3 * index], ARGV[3 * index + 1]
  local state, queue = owned(KEYS[index], owner, fence, 'queue')
  if state == 'running' then
    redis.call('HSET', KEYS[index], 'lease', lease_end)
    -- It may have been woken since, for a worker that seemed to be gone.
    if not redis.call('ZSCORE', RUNNING, id) then take_out(id, queue) end
    place_running(id, lease_end)
  else
    table.insert(lost, owner)
  end
end
return lost
