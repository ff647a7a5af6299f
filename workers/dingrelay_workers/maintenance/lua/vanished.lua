-- End the leases of a worker that is gone, so that others may claim its jobs, and have the wake-ups
-- published again that it may have taken along.
-- Answers {from where to look on, or 0 if all were looked at, leases ended}, or {-1, 0} if the worker
-- has given another sign since or another one has done this.
if redis.call('HGET', presence, worker) ~= sign then return {-1, 0} end

-- Ordered by the end of their leases and not by rank: other workers renew and claim between two calls, which moves
-- their jobs back. A lease that has ended is left to the scheduler.
local prefix, ended, latest = worker .. '/', 0, 0
local function end_leases(running)
  for index = 1, #running, 2 do
    local id = running[index]
    latest = tonumber(running[index + 1])
    local fields = redis.call('HMGET', JOB .. id, 'state', 'owner')
    if fields[1] == 'running' and string.sub(fields[2] or '', 1, #prefix) == prefix then
      redis.call('HSET', JOB .. id, 'lease', now, 'woken', 0)
      redis.call('ZADD', RUNNING, now, id)
      ended = ended + 1
    end
  end
  return #running / 2
end
local from = start > now and string.format('%.0f', start) or string.format('(%.0f', now)
local looked_at = end_leases(redis.call('ZRANGE', RUNNING, from, '+inf', 'BYSCORE', 'LIMIT', 0, count, 'WITHSCORES'))
if looked_at == count then
  -- Leases of that very end come again.
  if latest > start or ended > 0 then return {latest, ended} end
  -- So many of one end are others', as after a heartbeat: the rest of that end is behind them.
  end_leases(redis.call('ZRANGE', RUNNING, from, from, 'BYSCORE', 'WITHSCORES'))
  return {latest + 1, ended}
end

-- Wake-ups that a worker has taken and not claimed are the oldest of a queue, which is first in, first out. To
-- publish it twice does no harm.
for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
  for _, id in ipairs(redis.call('ZRANGE', WOKEN .. queue, 0, held - 1)) do
    local fields = redis.call('HMGET', JOB .. id, 'state', 'lease')
    take_out(id, queue)
    if waits(fields[1]) then
      -- It was due when it was woken, whatever the server's clock has done since.
      wake_at(id, queue, now)
    elseif fields[1] == 'running' and tonumber(fields[2]) then
      redis.call('HSET', JOB .. id, 'woken', 0)
      place_running(id, tonumber(fields[2]))
    elseif newer(JOB .. id) then
      place_woken(id, queue, now)
    end
  end
end
redis.call('HDEL', presence, worker)
return {0, ended}
