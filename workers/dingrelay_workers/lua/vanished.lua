-- End the leases of a worker that is gone, so that others may claim its jobs.
-- KEYS: presence
-- ARGV: worker, its last sign, how many of the running jobs to pass over, how many to look at
-- Answers {1 if more of them are to be looked at, leases ended}, or {-1, 0} if the worker has given
-- another sign since or another one has done this.
local presence, worker, sign, start, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('HGET', presence, worker) ~= sign then return {-1, 0} end

local prefix, ended = worker .. '/', 0
local running = redis.call('ZRANGE', RUNNING, start, start + count - 1)
for _, id in ipairs(running) do
  local known = redis.call('HMGET', JOB .. id, 'state', 'owner')
  if known[1] == 'running' and string.sub(known[2], 1, #prefix) == prefix then
    redis.call('HSET', JOB .. id, 'lease', now, 'woken', 0)
    redis.call('ZADD', RUNNING, now, id)
    ended = ended + 1
  end
end
if #running == count then return {1, ended} end
redis.call('HDEL', presence, worker)
return {0, ended}
