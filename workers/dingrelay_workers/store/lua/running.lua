-- How a job begins to run, or is left to a worker of a newer release.

local MOST_PAUSE = 60000  -- ms after which a job that was left is offered to the next worker, at most

-- Whether this release knows how to run a job, by what its record says.
local function known_here(version, kind)
  return tonumber(version or 0) <= FORMAT and string.find(KINDS, ' ' .. (kind or '') .. ' ', 1, true)
end

-- The step of a kind of job whose call must not be repeated and can be looked for; nil of any other kind.
local function changing_step(kind)
  local _, before = string.find(CHANGING_STEPS, ',' .. kind .. ':', 1, true)
  return before and string.match(CHANGING_STEPS, '^[^,]+', before + 1)
end

-- A newer release has to run a job that is due. It is woken again, after twice as long each
-- time: while only older workers are there, it must not keep them from their own jobs.
local function leave_job(record, id)
  local known = redis.call('HMGET', record, 'state', 'due', 'lease', 'queue')
  local running = known[1] == 'running'
  local since = tonumber(running and known[3] or waits(known[1]) and known[2] or nil)
  if not since or since > now then return end
  local times = redis.call('HINCRBY', record, 'left', 1)
  local due = now + math.min(MOST_PAUSE, 500 * 2 ^ math.min(times, 10))
  redis.call('HSET', record, running and 'lease' or 'due', due)
  take_out(id, known[4])
  if running then place_running(id, due) else place_until(id, due) end
end

-- A record as Redis returns it, and its fields by name; none if there is no such job.
local function read(record)
  local flat, fields = redis.call('HGETALL', record), {}
  for index = 1, #flat, 2 do fields[flat[index]] = flat[index + 1] end
  return flat, fields
end

-- Jobs that begin to run and are not yet in their place: queue -> ids, and the ends of their leases with ids.
local starting, leases = {}, {}

-- Put them there, by a few commands for all.
local function place_starting()
  if not leases[1] then return end
  for queue, ids in pairs(starting) do
    if leave_place(WOKEN .. queue, unpack(ids)) < #ids then
      leave_place(SCHEDULE, unpack(ids))
      leave_place(RUNNING, unpack(ids))
    end
  end
  redis.call('ZADD', RUNNING, unpack(leases))
  renew(RUNNING)
end

-- The job, whose record was just read, is this owner's until the lease ends. A new owner has a new fence;
-- one that claims `again`, since its first answer was lost, keeps its own. Returns the record: of a
-- field that is in it twice, the second value holds. Before the script ends, `place_starting` must be called.
local function run(record, id, answer, fields, owner, lease, again)
  local lease_end = now + lease
  local fence = string.format('%.0f', (fields.fence or 0) + (again and 0 or 1))
  local started = fields.started or string.format('%.0f', now)
  redis.call('HSET', record, 'state', 'running', 'owner', owner, 'lease', lease_end, 'woken', now,
    'fence', fence, 'started', started)
  local ids = starting[fields.queue] or {}
  starting[fields.queue] = ids
  ids[#ids + 1] = id
  add(leases, lease_end, id)
  add(answer, 'owner', owner)
  add(answer, 'fence', fence)
  add(answer, 'started', started)
  return answer
end

-- When the latest of the wake-ups that were started in a slot had been published, for the last SLOTS of
-- them, and before those. What was published before a wake-up that was started a grace ago should have been
-- started too (`schedule.lua`). It is read once a run, and written a few times a slot, not for each job.
local known_progress = {}

local function note_started(progress, woken, slot)
  local number = math.floor(now / slot)
  local field = 's' .. number % SLOTS
  local noted = known_progress[progress] or redis.call('HMGET', progress, field, 'passed', 'started')
  known_progress[progress] = noted
  local known_slot, latest = string.match(noted[1] or '', '^(%d+) (%d+)$')
  local same_slot = known_slot == tostring(number)
  local passed = tonumber(noted[2] or 0)
  if not same_slot and latest and (tonumber(latest) > passed or passed > now) then
    redis.call('HSET', progress, 'passed', latest)
  end
  local pause = slot / 8
  if not same_slot or woken >= latest + pause or now >= (noted[3] or 0) + pause then
    latest = same_slot and math.max(latest, woken) or woken
    noted[1], noted[3] = string.format('%.0f %.0f', number, latest), now
    redis.call('HSET', progress, field, noted[1], 'started', now)
    redis.call('PEXPIRE', progress, PROGRESS_TTL)
  end
end

