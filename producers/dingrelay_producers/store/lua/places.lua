-- Shared by the transitions of a job: the time, its owner, and the three places in which an open job is found.
-- The keys stand as constants before it (`transitions.PLACES`).
--
-- schedule     id → when it is due: it waits for a time
-- woken:QUEUE  id → when its wake-up was published: it waits for that to be started
-- running      id → when its lease ends: it waits for its worker
--
-- Places and records are found by name here, so they can't be declared as KEYS: this runs on one
-- server, not on a cluster. All times are in ms.
local clock = redis.call('TIME')
local now = milliseconds(clock)

-- Append a name and a value to a list of both.
local function add(list, name, value)
  local size = #list
  list[size + 1] = name
  list[size + 2] = value
end

-- Write names and values in turn into a record: so many at a time as Lua passes to a command.
local AT_ONCE = 2000
local function write(record, list)
  for first = 1, #list, AT_ONCE do
    redis.call('HSET', record, unpack(list, first, math.min(first + AT_ONCE - 1, #list)))
  end
end

-- Add what steps brought. One that ends once a call was noted is that call's: part of the job is done, it has begun.
local function add_steps(list, steps, called)
  for _, step in ipairs(steps) do add(list, 'step:' .. step.name, step.outcome) end
  if called and #steps > 0 then add(list, 'begun', 1) end
end

local function waits(state)
  return state == 'queued' or state == 'snoozed' or state == 'retrying'
end

-- The state of a job that still is this owner's, and the fields that are named after the fence; nil of
-- one that is another's or of none. Every write of a run checks owner and fence. Neither would do alone: a
-- failover that loses a claim gives its fence out again, and an owner that claims once more has a new fence.
local function owned(record, owner, fence, ...)
  local fields = redis.call('HMGET', record, 'owner', 'fence', 'state', ...)
  if fields[1] == owner and tonumber(fields[2]) == fence then return unpack(fields, 3) end
end

-- Whether a newer release wrote the record, in a way that this one does not know.
local function newer(record)
  return tonumber(redis.call('HGET', record, 'v') or 0) > FORMAT
end

-- The history of the data: it changes with a failover or a restart, which may have lost
-- the last second. Empty where INFO is not permitted.
local function history()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
end

local SPARE = 86400000  -- ms by which a place lives longer, so that it is not renewed for each job

-- Places that have their time to live: in one run of a script once is enough.
local renewed = {}

local function renew(place)
  if renewed[place] then return end
  redis.call('PEXPIRE', place, MARGIN)
  renewed[place] = true
end

-- Jobs leave a place; how many were there. A place that is empty is gone, and so is its time to live.
local function leave_place(place, ...)
  renewed[place] = nil
  return redis.call('ZREM', place, ...)
end

-- A job waits for a time; its record lives until long after that, and after now.
local function place_until(id, due)
  redis.call('ZADD', SCHEDULE, due, id)
  redis.call('PEXPIREAT', JOB .. id, math.max(due, now) + MARGIN)
  if (renewed[SCHEDULE] or 0) >= due + MARGIN then return end
  renewed[SCHEDULE] = due + MARGIN + SPARE
  redis.call('PEXPIREAT', SCHEDULE, renewed[SCHEDULE], 'NX')
  redis.call('PEXPIREAT', SCHEDULE, renewed[SCHEDULE], 'GT')
end

-- Jobs wait until their wake-ups, which were published then, are started.
local function place_all_woken(ids, queue, moment)
  local places = {}
  for _, id in ipairs(ids) do
    places[#places + 1] = moment
    places[#places + 1] = id
    redis.call('PEXPIREAT', JOB .. id, now + MARGIN)
  end
  local place = WOKEN .. queue
  redis.call('ZADD', place, unpack(places))
  if renewed[place] then return end
  renewed[place] = true
  -- Its queue is among those that hold wake-ups: both are written together, and the scheduler forgets only
  -- queues that have no such place.
  if redis.call('PTTL', place) > MARGIN then return end
  redis.call('PEXPIRE', place, MARGIN + SPARE)
  redis.call('SADD', QUEUES, queue)
  redis.call('PEXPIRE', QUEUES, MARGIN + SPARE)
end

-- A job does.
local function place_woken(id, queue, moment)
  place_all_woken({ id }, queue, moment)
end

-- A job runs until its worker says otherwise.
local function place_running(id, lease_end)
  redis.call('ZADD', RUNNING, lease_end, id)
  renew(RUNNING)
end

-- A job leaves all places.
local function take_out(id, queue)
  leave_place(SCHEDULE, id)
  leave_place(RUNNING, id)
  if queue then leave_place(WOKEN .. queue, id) end
end

-- A waiting job is due at a moment: the scheduler wakes it then, whatever it waited for. None runs before the
-- time that its sender set, or to which it was postponed. Answers the moment.
local function wake_at(id, queue, moment)
  local due = math.max(moment, tonumber(redis.call('HGET', JOB .. id, 'not_before') or nil) or moment)
  redis.call('HSET', JOB .. id, 'due', due, 'woken', 0)
  -- Most wait for another time.
  if not redis.call('ZSCORE', SCHEDULE, id) then take_out(id, queue) end
  place_until(id, due)
  return due
end

-- A job is over, and its record goes after `ttl` (ms). The message of a client without our package is
-- the job: a redelivery by the broker must not run it again. The record prevents that while it exists;
-- a tombstone does where the record goes before the last possible redelivery.
local function bury(id, bare, ttl)
  if bare and ttl < TOMBSTONE_TTL then
    redis.call('SET', TOMBSTONE .. id, '', 'PX', TOMBSTONE_TTL)
  end
end
