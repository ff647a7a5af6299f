-- What every script knows of reservations. It is put before those that name it.
--
-- A job reserves for one step at a time, just before its call. Its record's `reserved` names that
-- step, the key of those who are taken (user -> job), the key of the day's counts (user -> messages;
-- empty where nothing is counted) and the users, a line each. Whoever it took for an earlier step
-- was called: a step is only left once it was answered.

-- What `reserved` says; the users are those of a list from a place on.
local function reservation(step, taken, received, list, first)
  return step .. '\n' .. taken .. '\n' .. received .. '\n' .. table.concat(list, ',', first)
end

local function reserved_by(record)
  local held = redis.call('HMGET', record, 'state', 'reserved')
  local step, taken, received, users =
    string.match(held[2] or '', '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  return held[1], step, taken, received, users
end

-- Where a reservation of another job stands: `sent`, `runs` (its call may leave at any time), or
-- `free`: nobody sends it now. What may have been sent is free, too: DingTalk drops a second copy.
local function standing(record, user)
  local state, step, _, _, users = reserved_by(record)
  if not state or state == 'done' or not step then return 'sent' end
  if not string.find(',' .. users .. ',', ',' .. user .. ',', 1, true) then return 'sent' end
  if redis.call('HEXISTS', record, 'step:' .. step) == 1 then return 'sent' end
  return state == 'running' and 'runs' or 'free'
end

-- Take one user's reservation away from a job, and the message from the user's day.
local function forget(taken, received, user)
  redis.call('HDEL', taken, user)
  if redis.call('HINCRBY', received, user, -1) <= 0 then redis.call('HDEL', received, user) end
end

-- A job ends: what it reserved is free again, unless its call was answered or may have left.
local function give_back(record, id)
  local _, step, taken, received, users = reserved_by(record)
  if not step or redis.call('HEXISTS', record, 'step:' .. step) == 1 then return end
  local intent = redis.call('HGET', record, 'intent')
  if intent and cjson.decode(intent).step == step then return end
  redis.call('HDEL', record, 'reserved')
  if received == '' then redis.call('HDEL', taken, id) end
  for user in string.gmatch(users, '[^,]+') do
    if redis.call('HGET', taken, user) == id then
      if received == '' then redis.call('HDEL', taken, user) else forget(taken, received, user) end
    end
  end
end

-- A run reserves, and the one before it has reserved something else: for the step after this one, and was
-- killed before its call; or on another day; or for somebody who can't be reached any more.
local function reserve_instead(record, id, before, reserved)
  if before and before ~= reserved then give_back(record, id) end
end
