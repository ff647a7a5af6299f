-- queued → running: one worker owns the job until its lease runs out.
-- KEYS: record, progress of the queue
-- ARGV: id, owner, lease, woken, slot (times in ms)
-- Answers {claimed, now, field, value, ...}, or {verdict, ''}: ended | busy | early | missing | newer. The
-- same owner may claim again: its first answer was lost. If somebody else has run the job or runs
-- it, the second is where others wait with which it could have shared a call, if any do.
local record, progress = KEYS[1], KEYS[2]
local id, owner, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local woken, slot_ms = math.min(tonumber(ARGV[4]), now), tonumber(ARGV[5])

-- How far the queue has come: when the latest of the wake-ups that were started in a slot had been
-- published, for the last SLOTS of them, and before those. What was published before a wake-up that
-- was started a grace ago should have been started too (`schedule.lua`).
local slot = math.floor(now / slot_ms)
local field = 's' .. slot % SLOTS
local told = redis.call('HMGET', progress, field, 'passed')
local known_slot, latest = string.match(told[1] or '', '^(%d+) (%d+)$')
if known_slot == tostring(slot) then
  latest = math.max(tonumber(latest), woken)
else
  if latest and tonumber(latest) > tonumber(told[2] or 0) then
    redis.call('HSET', progress, 'passed', latest)
  end
  latest = woken
end
redis.call('HSET', progress, field, string.format('%.0f %.0f', slot, latest), 'started', now)
redis.call('PEXPIRE', progress, PROGRESS_TTL)

local known = redis.call('HMGET', record,
  'state', 'owner', 'lease', 'due', 'batch_key', 'queue', 'fence', 'called', 'history', 'v', 'kind', 'left')
local state, batch_key, queue = known[1], known[5], known[6]
if not state then return {'missing', ''} end
if not known_here(known[10], known[11]) then
  leave(record, id)
  return {'newer', ''}
end

local function left(verdict)
  return {verdict, batch_key and redis.call('EXISTS', batch_key) == 1 and batch_key or ''}
end

local again = false
if state == 'running' then
  if known[2] == owner then
    again = true
  elseif tonumber(known[3]) > now then
    return left('busy')
  elseif not string.find(known[2], '%.%d+$') then
    -- Its worker is gone, perhaps because of this very job, and the more so if it had a call under
    -- way. Of those that a call took along (`claim_batch.lua`) it was hardly one: a hundred would
    -- be blamed for each crash.
    redis.call('HINCRBY', record, known[8] == known[7] and 'crashes' or 'losses', 1)
  end
elseif not waits(state) then
  return left('ended')
elseif tonumber(known[4]) > now then
  return {'early', ''}
end

-- A failover may have lost the intent of a call that left, with the claim. So what was accepted before
-- it is looked for before it is made, and an older call counts as having left now.
local accepted_in = known[9]
if accepted_in then
  local present = history()
  if accepted_in ~= '' and present ~= accepted_in
      and redis.call('HEXISTS', record, 'step:' .. MAKING) == 0 then
    local told = redis.call('HMGET', record, 'intent', 'created')
    local intent = told[1] and cjson.decode(told[1]) or {step = MAKING, since = tonumber(told[2])}
    intent.at = now
    redis.call('HSET', record, 'intent', cjson.encode(intent))
  end
  redis.call('HSET', record, 'history', present)
end

if batch_key then redis.call('ZREM', batch_key, id) end
if known[12] then redis.call('HDEL', record, 'left') end
local answer = run(record, id, queue, owner, lease, again)
table.insert(answer, 1, now)
table.insert(answer, 1, 'claimed')
return answer
