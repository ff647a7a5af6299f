-- Take what is due on the schedule and say what must be published.
-- KEYS: sweeper, schedule, batch
-- ARGV: worker, sweeper's lease, most jobs to look at, grace, record prefix, queue prefix,
--       alive prefix, ttl of the batch, the batch that was published (times in ms)
-- Answers {1, milliseconds until the next is due, name of this batch,
-- {id, kind, queue, payload, summary, woken}...}, or {0} if another worker sweeps.
--
-- A batch is kept until the sweeper says by its name that it was published: where the answer was
-- lost, the broker was away or the sweeper died, it is answered again.
--
-- Records are found by id here, so their keys can't be declared: this runs on one server, not on
-- a cluster.
local sweeper, schedule, batch = KEYS[1], KEYS[2], KEYS[3]
local holder = redis.call('GET', sweeper)
if holder and holder ~= ARGV[1] then return {0} end
redis.call('SET', sweeper, ARGV[1], 'PX', ARGV[2])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local grace = tonumber(ARGV[4])

-- What was woken before `passed` and has not started has been overtaken for a grace: it is lost.
-- A queue that started nothing for a grace, though somebody serves it, has lost what it held.
local progress = {}
local function lost(queue, woken)
  local known = progress[queue]
  if not known then
    local key = ARGV[6] .. queue
    local fields = redis.call('HGETALL', key)
    local passed, started = 0, 0
    for index = 1, #fields, 2 do
      local name, value = fields[index], tonumber(fields[index + 1])
      if name == 'started' then
        started = value
      elseif name == 'passed' then
        passed = math.max(passed, value)
      elseif (tonumber(string.sub(name, 2)) + 1) * 5000 < now - grace then
        passed = math.max(passed, value)
        redis.call('HDEL', key, name)
        redis.call('HSET', key, 'passed', passed)
      end
    end
    local idle = started < now - grace and redis.call('EXISTS', ARGV[7] .. queue) == 1
    known = {passed, idle}
    progress[queue] = known
  end
  return woken < known[1] or (known[2] and woken < now - grace)
end

local answer = {1, 0, clock[1] .. '.' .. clock[2]}
local taken = {}
local function wake(id, queue)
  redis.call('HSET', ARGV[5] .. id, 'woken', now)
  redis.call('ZADD', schedule, now + grace, id)
  local more = redis.call('HMGET', ARGV[5] .. id, 'kind', 'payload', 'summary')
  table.insert(answer, {id, more[1], queue, more[2], more[3], now})
  table.insert(taken, id)
end

-- What a job in the schedule waits for: when it is due, when it was woken and in which queue.
local function look(id)
  local told = redis.call('HMGET', ARGV[5] .. id, 'state', 'due', 'woken', 'lease', 'queue')
  local state = told[1]
  local waits = state == 'queued' or state == 'snoozed' or state == 'retrying'
  if not waits and state ~= 'running' then return nil end
  return tonumber(waits and told[2] or told[4]), tonumber(told[3]), told[5]
end

local unpublished = redis.call('HMGET', batch, 'name', 'ids')
if unpublished[1] and unpublished[1] ~= ARGV[9] then
  for _, id in ipairs(cjson.decode(unpublished[2])) do
    local due, _, queue = look(id)
    if due and due <= now then wake(id, queue) end
  end
end

-- A long queue is looked at less often: at most about 500 looks a second.
local patience = math.max(grace / 3, redis.call('ZCARD', schedule) * 2)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', schedule, '-inf', now, 'LIMIT', 0, ARGV[3])) do
  local due, woken, queue = look(id)
  if not due then
    redis.call('ZREM', schedule, id)
  elseif due > now then
    redis.call('ZADD', schedule, due, id)
  elseif woken < due or lost(queue, woken) then
    wake(id, queue)
  else
    redis.call('ZADD', schedule, now + patience, id)
  end
end

if #taken > 0 then
  redis.call('HSET', batch, 'name', answer[3], 'ids', cjson.encode(taken))
  redis.call('PEXPIRE', batch, ARGV[8])
else
  redis.call('DEL', batch)
end
local next = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
answer[2] = next[2] and math.max(0, math.floor(tonumber(next[2]) - now)) or -1
return answer
