-- Take the jobs that must be woken, and say what must be published.
-- Answers {1, milliseconds until the next is due or -1, name of this batch, 1 if jobs are parked in any lane,
-- {id, kind, queue, app, lane, summary, woken}...}, or {0} if another worker is the scheduler.
--
-- A batch is kept until the scheduler says by its name that it was published: where the answer was
-- lost, the broker was away or the scheduler died, it is answered again, and nothing else until
-- then.
local holder, left = redis.call('GET', scheduler), redis.call('PTTL', scheduler)
-- A lease that ends later than it could is from before the server's clock stepped back by so much.
local stepped_back = holder and left - lease or 0
if holder and holder ~= worker and stepped_back <= 0 then return {0} end
redis.call('SET', scheduler, worker, 'PX', lease)

local LATER = 30000  -- ms after which to look again at a job that waits for its sender's turn, or for others
local name = string.format('%.0f.%.0f', clock[1], clock[2])
local answer, taken, more_wait = {1, 0, name, redis.call('EXISTS', LANES)}, {}, false

-- Jobs that are woken and not yet in their new place: queue -> ids. What they share is done once.
local moving = {}

local function wake(id, job)
  redis.call('HSET', JOB .. id, 'woken', now)
  local ids = moving[job.queue] or {}
  moving[job.queue] = ids
  ids[#ids + 1] = id
  answer[#answer + 1] = {id, job.kind, job.queue, job.app, job.lane, job.summary, now}
  taken[#taken + 1] = id
end

local function move_woken()
  for queue, ids in pairs(moving) do
    leave_place(SCHEDULE, unpack(ids))
    leave_place(RUNNING, unpack(ids))
    place_all_woken(ids, queue, now)
  end
  moving = {}
end

-- A moment (ms) of a record, or nil: a place takes no other.
local function moment(text)
  local value = tonumber(text or nil)
  return value and math.abs(value) <= 2 ^ 53 - MARGIN and value or nil
end

-- An open job, and since when it is due; nil if it has ended. What lacks a field that every record has
-- is no job: it must not keep the others from being woken.
local NEEDED = {5, 6, 7, 8, 9}
local function look(id)
  local values = redis.call('HMGET', JOB .. id, 'state', 'due', 'woken', 'lease', 'queue',
    'kind', 'app', 'lane', 'summary', 'parked')
  for _, index in ipairs(NEEDED) do
    if not values[index] then return nil end
  end
  local running = values[1] == 'running'
  local due, woken = moment(running and values[4] or waits(values[1]) and values[2]), moment(values[3])
  return due and woken and {due = due, running = running, woken = woken, queue = values[5], kind = values[6],
    app = values[7], lane = values[8], summary = values[9], parked = not running and values[10]}
end

-- An entry without a job leaves its place. An entry of a newer release waits for a scheduler that supports it.
local function drop(place, id)
  if newer(JOB .. id) then
    redis.call('ZADD', place, now + LATER, id)
  else
    leave_place(place, id)
  end
end

-- Whether a job is parked where its turn comes: its sender's jobs, the senders of its lane and the lanes are
-- three keys, and the loss of one in Redis must hold up no job.
local function has_turn(id, parked)
  local lane, sender = string.match(parked, PARKED_PATTERN)
  return lane and redis.call('ZSCORE', parked, id) and redis.call('ZSCORE', TURNS .. lane, sender)
    and redis.call('ZSCORE', LANES, lane)
end

-- Wake the job, or put it where it belongs: an older version kept all of them in one place.
local function attend(place, id, lost)
  local job = look(id)
  if not job then
    drop(place, id)
  elseif job.due > now then
    take_out(id, job.queue)
    if job.running then place_running(id, job.due) else place_until(id, job.due) end
  elseif job.parked and has_turn(id, job.parked) then
    -- Its sender's turn is later than was guessed: then it is woken (`wake_parked.lua`).
    redis.call('HSET', JOB .. id, 'due', now + LATER)
    place_until(id, now + LATER)
  elseif job.woken < job.due or lost then
    wake(id, job)
  else
    take_out(id, job.queue)
    place_woken(id, job.queue, job.woken)
  end
end

local function attend_all(place, ids, room, lost)
  if #ids == room then more_wait = true end
  for _, id in ipairs(ids) do attend(place, id, lost) end
  move_woken()
  return #ids
end

-- Jobs that wait for a duration, and not for a time set by a user, would wait for as much longer as the clock
-- has stepped back. That is seldom: most waiting jobs are corrected in one go.
local STEP, MOST_WAITING = 1000, 20000  -- ms that a clock's correction may take back, jobs
local function come_back(by)
  for _, id in ipairs(redis.call('ZRANGE', SCHEDULE, now, '+inf', 'BYSCORE', 'LIMIT', 0, MOST_WAITING)) do
    local fields = redis.call('HMGET', JOB .. id, 'due', 'not_before')
    local at, not_before = moment(fields[1]), moment(fields[2])
    if at and not (not_before and not_before > now) then
      at = math.max(now, at - by)
      redis.call('HSET', JOB .. id, 'due', at)
      place_until(id, at)
    end
  end
end

local function due(place, room)
  return redis.call('ZRANGEBYSCORE', place, '-inf', now, 'LIMIT', 0, room)
end

-- How far a queue has come (`claim.lua`): what was woken before `passed` and has not started has
-- been overtaken for a grace, so it is lost.
local function progress_of(queue)
  local progress, passed = {}, 0
  local fields = redis.call('HGETALL', PROGRESS .. queue)
  for index = 1, #fields, 2 do
    local number, latest = string.match(fields[index + 1], '^(%d+) (%d+)$')
    if not number then
      -- A moment in the future was written before a clock that has stepped back.
      local value = tonumber(fields[index + 1])
      progress[fields[index]] = value and value <= now and value or nil
    elseif (tonumber(number) + 1) * slot <= now - grace then
      passed = math.max(passed, tonumber(latest))
    end
  end
  passed = math.min(math.max(passed, progress.passed or 0), now - grace)
  return passed, progress.started or 0, progress.probed or 0, progress.probes or 0
end

-- A queue that is served, and not by new workers only, and has started nothing for a grace has lost its
-- messages, or its workers are busy. One wake-up shows which: once it is started, what was published before it
-- is overtaken. Where it is not started either, the next one leaves later and later, so that the queue does
-- not grow.
local function must_probe(queue, started, probed, probes)
  if started >= now - grace or (redis.call('GET', ALIVE .. queue) or NEW) == NEW then return false end
  if started > probed then probes = 0 end
  if probes > 0 and now < probed + math.min(grace * 2 ^ probes, longest) then return false end
  redis.call('HSET', PROGRESS .. queue, 'probed', now, 'probes', probes + 1)
  redis.call('PEXPIRE', PROGRESS .. queue, PROGRESS_TTL)
  return true
end

-- Wake-ups not started for half of the margin: the records of open jobs live on.
local function prolong(place, queue, room)
  local old = redis.call('ZRANGEBYSCORE', place, '-inf', now - MARGIN / 2, 'LIMIT', 0, room)
  for _, id in ipairs(old) do
    if look(id) then
      redis.call('HSET', JOB .. id, 'woken', now)
      place_woken(id, queue, now)
    else
      drop(place, id)
    end
  end
  return #old
end

local function find_lost(queue, room)
  local place = WOKEN .. queue
  local oldest = redis.call('ZRANGE', place, 0, 0, 'WITHSCORES')
  if not oldest[1] then
    redis.call('SREM', QUEUES, queue)
    return 0
  end
  local woken = tonumber(oldest[2])
  local passed, started, probed, probes = progress_of(queue)
  if woken < passed then
    local before = string.format('(%.0f', passed)
    local lost = redis.call('ZRANGEBYSCORE', place, '-inf', before, 'LIMIT', 0, room)
    return attend_all(place, lost, room, true)
  end
  if woken < now - grace and must_probe(queue, started, probed, probes) then
    return attend_all(place, {oldest[1]}, 0, true)
  end
  return prolong(place, queue, room)
end

if wake_held(most) then more_wait = true end
if stepped_back > STEP then come_back(stepped_back) end
local open = redis.call('HMGET', batch, 'name', 'ids')
if open[1] and open[1] ~= published then
  for _, id in ipairs(cjson.decode(open[2])) do
    local job = look(id)
    if job and job.due <= now then wake(id, job) end
  end
  move_woken()
else
  -- Each kind of work has a share of the room, so that none waits for another's backlog.
  local half, quarter = math.floor(most / 2), math.floor(most / 4)
  local room = most - attend_all(RUNNING, due(RUNNING, half), half)
  for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
    if room > quarter then room = room - find_lost(queue, quarter) end
  end
  attend_all(SCHEDULE, due(SCHEDULE, room), room)
end

if #taken > 0 then
  redis.call('HSET', batch, 'name', name, 'ids', cjson.encode(taken))
  redis.call('PEXPIRE', batch, batch_ttl)
else
  redis.call('DEL', batch)
end
answer[2] = -1
for _, place in ipairs({SCHEDULE, RUNNING}) do
  local next = redis.call('ZRANGE', place, 0, 0, 'WITHSCORES')
  if next[2] then
    local pause = math.max(0, math.floor(tonumber(next[2]) - now))
    answer[2] = answer[2] < 0 and pause or math.min(answer[2], pause)
  end
end
if more_wait then answer[2] = 0 end
return answer
