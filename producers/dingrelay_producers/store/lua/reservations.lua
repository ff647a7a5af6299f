-- Functions for reservations.
--
-- A job reserves for one step at a time, just before its call. Its record's `reserved` names that
-- step, the key of those who are taken (user -> job), the beginning of the keys of the day (`RECEIVED`;
-- empty where nothing is counted) and the users, a line each. Once the step was answered they are no
-- longer taken: the day keeps in a few bytes each that they have the content.
--
-- RECEIVED:SHARD      digest of a user -> messages of the day
-- RECEIVED:had:SHARD  digests of content and user, for those who have it
--
-- Digests are whole numbers, and shards small, so that servers keep them as listpacks and intsets. Shard and
-- digest are 66 bits of a SHA-1: among a million people who have something two are alike by a chance of one in
-- 150 million, and then one of the two is left out as a duplicate.

local SHARDS = 16384

-- The shard of a text, and its digest: 52 bits, which Lua's numbers hold exactly.
local function place(text)
  local hex = redis.sha1hex(text)
  local digest = string.format('%.0f', tonumber(string.sub(hex, 5, 17), 16))
  return tonumber(string.sub(hex, 1, 4), 16) % SHARDS, digest
end

-- The key and the field of a user's messages of the day.
local function counted(received, user)
  local shard, digest = place(user)
  return received .. ':' .. shard, digest
end

-- The key and the member that say that a user has a content.
local function had_by(received, content, user)
  local shard, digest = place(content .. user)
  return received .. ':had:' .. shard, digest
end

-- Format of `reserved`.
local function reservation(step, taken, received, users)
  return step .. '\n' .. taken .. '\n' .. received .. '\n' .. users
end

local function parts(reserved)
  return string.match(reserved or '', '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
end

local function reserved_by(record)
  local held = redis.call('HMGET', record, 'state', 'reserved')
  return held[1], parts(held[2])
end

-- Where a reservation of another job stands: `sent`, `runs` (its call may leave at any time), or
-- `free`: no run sends it now. What may have been sent is free, too: DingTalk drops a second copy.
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
  local key, digest = counted(received, user)
  if redis.call('HINCRBY', key, digest, -1) <= 0 then redis.call('HDEL', key, digest) end
end

-- The users of a reservation that still belong to a job.
local function held_by(id, taken, users)
  local names, held = {}, {}
  for user in string.gmatch(users, '[^,]+') do names[#names + 1] = user end
  if #names == 0 then return held end
  for index, holder in ipairs(redis.call('HMGET', taken, unpack(names))) do
    if holder == id then held[#held + 1] = names[index] end
  end
  return held
end

-- A job's call was answered: the users of its step have the content.
local function keep_sent(id, taken, received, users)
  if received == '' then return end
  local held = held_by(id, taken, users)
  if #held == 0 then return end
  local content = string.match(taken, '[^:]+$')
  for _, user in ipairs(held) do
    local key, digest = had_by(received, content, user)
    redis.call('SADD', key, digest)
    redis.call('PEXPIRE', key, DAY_TTL)
  end
  redis.call('HDEL', taken, unpack(held))
end

-- A job leaves its step, or ends: users that were called have the content, the others are free again. With a call
-- that may have left, all stays as it is.
local function give_back(record, id)
  local state, step, taken, received, users = reserved_by(record)
  if not step then return end
  if state == 'done' or redis.call('HEXISTS', record, 'step:' .. step) == 1 then
    keep_sent(id, taken, received, users)
    return
  end
  local intent = redis.call('HGET', record, 'intent')
  if intent and cjson.decode(intent).step == step then return end
  redis.call('HDEL', record, 'reserved')
  if received == '' then redis.call('HDEL', taken, id) end
  for _, user in ipairs(held_by(id, taken, users)) do
    if received == '' then redis.call('HDEL', taken, user) else forget(taken, received, user) end
  end
end

-- The record of a job is deleted, and its call may have left: release its users; the day still counts the message.
local function let_go(record, id)
  local _, step, taken, received, users = reserved_by(record)
  if not step or received == '' then return end
  local held = held_by(id, taken, users)
  if #held > 0 then redis.call('HDEL', taken, unpack(held)) end
end

