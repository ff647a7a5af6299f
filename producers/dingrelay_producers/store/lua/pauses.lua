-- Pauses of lanes, and jobs that are held for the end of one.
--
-- A pause has the name APP:LANE, or APP:LANE:SENDER for the jobs of one sender; the lane may be `all`. Redis has it
-- as `end since person`, both in ms, with the reason on a line of its own. Jobs are held on their way to a worker, so that none runs and no call leaves;
-- the scheduler wakes them at the end of the pause, or as soon as it is resumed.

-- All pauses that Redis has, also those that are over.
local function stored_pauses()
  local stored, all = {}, redis.call('HGETALL', PAUSES)
  for index = 1, #all, 2 do
    local ends, since, person, reason = string.match(all[index + 1], '^(%d+) (%d+) ([^\n]*)\n?(.*)$')
    if ends then
      stored[#stored + 1] = {name = all[index], ends = tonumber(ends), since = tonumber(since), person = person, reason = reason}
    end
  end
  return stored
end

local function store_pause(name, ends, since, person, reason)
  local line = reason == '' and '' or '\n' .. reason
  redis.call('HSET', PAUSES, name, string.format('%.0f %.0f ', ends, since) .. person .. line)
end

-- The pauses of now: name -> when it ends. They are read once a run, and there are few.
local pauses
local function paused_until(name)
  if not pauses then
    pauses = {}
    for _, pause in ipairs(stored_pauses()) do
      if pause.ends > now then pauses[pause.name] = pause.ends end
    end
  end
  return pauses[name]
end

-- The name of a pause of these jobs that ends last, and its end; nil for none.
local function pause_of(app, lane, sender)
  paused_until('')
  if not next(pauses) then return nil end
  local latest, last_end = nil, 0
  for _, of_lane in ipairs({app .. ':' .. lane, app .. ':all'}) do
    for _, name in ipairs({of_lane, of_lane .. ':' .. (sender or '')}) do
      local ends = pauses[name]
      if ends and ends > last_end then latest, last_end = name, ends end
    end
  end
  return latest, last_end
end

-- A person puts a waiting job off: until then it shares no call and waits for no turn, and its age counts from the end
-- of that on.
local function put_off(id, queue, batch_key, turn)
  take_out(id, queue)
  if batch_key then redis.call('ZREM', batch_key, id) end
  if turn then redis.call('ZREM', turn, id) end
  redis.call('HDEL', JOB .. id, 'parked', 'turn', 'started', 'owner', 'lease')
end

-- Hold a waiting job, if it is one of a pause: whether it is held. What has begun is finished: a call of it may have been
-- carried out, or was. What expires ends, and kinds that clean up behind others go on.
local HELD_FIELDS = {'app', 'lane', 'sender', 'kind', 'expires', 'intent', 'queue', 'created', 'batch_key', 'turn', 'begun'}
local function hold(id)
  paused_until('')
  if not next(pauses) then return false end
  local record = JOB .. id
  local fields = redis.call('HMGET', record, unpack(HELD_FIELDS))
  local name, ends = pause_of(fields[1] or '', fields[2] or '', fields[3])
  local expires = tonumber(fields[5] or nil) or math.huge
  local has_begun = fields[6] or fields[11]
  if not name or has_begun or expires <= now or not string.find(HELD_KINDS, ' ' .. fields[4] .. ' ', 1, true) then
    return false
  end
  local due = math.min(ends, expires)
  put_off(id, fields[7], fields[9], fields[10])
  redis.call('HSET', record, 'state', 'snoozed', 'due', due, 'woken', 0,
    'waits_for', cjson.encode({what = 'pause', name = name}))
  place_until(id, due)
  redis.call('ZADD', HELD_JOBS .. name, fields[8] or now, id)
  redis.call('PEXPIRE', HELD_JOBS .. name, HELD_TTL)
  redis.call('SADD', HELD, name)
  redis.call('PEXPIRE', HELD, HELD_TTL)
  return true
end

local function waits_for_pause(waits_for)
  return waits_for and string.find(waits_for, '"what":"pause"', 1, true)
end

-- Wake the jobs of pauses that are over, so many at a time: whether there are more.
local function wake_held(most)
  for _, name in ipairs(redis.call('SMEMBERS', HELD)) do
    if not paused_until(name) then
      local ids = redis.call('ZPOPMIN', HELD_JOBS .. name, most)
      for index = 1, #ids, 2 do
        local id = ids[index]
        local fields = redis.call('HMGET', JOB .. id, 'state', 'waits_for', 'queue', 'batch_key', 'created')
        if fields[1] == 'snoozed' and waits_for_pause(fields[2]) then
          redis.call('HDEL', JOB .. id, 'waits_for')
          wake_at(id, fields[3], now)
          if fields[4] then
            redis.call('ZADD', fields[4], fields[5], id)
            redis.call('PEXPIRE', fields[4], WAITING_TTL)
          end
        end
      end
      redis.call('HDEL', PAUSES, name)
      if #ids == 2 * most then return true end
      redis.call('SREM', HELD, name)
    end
  end
  return false
end
