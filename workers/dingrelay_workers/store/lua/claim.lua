-- queued → running: one worker owns the job until its lease runs out.
-- Returns {claimed, now, {field, value, ...}}, or {verdict, ''}: ended | busy | early | held | missing | newer. The
-- same owner may claim again: its first answer was lost. If another owner has run the job or runs
-- it, the second is where jobs wait with which it could have shared a call, if any do.
note_started(progress, math.min(woken, now), slot)
local answer, known = read(record)
local state, batch_key = known.state, known.batch_key
if not state then return {'missing', ''} end
if not known_here(known.v, known.kind) then
  leave_job(record, job)
  return {'newer', ''}
end

local function left(verdict)
  return {verdict, batch_key and redis.call('EXISTS', batch_key) == 1 and batch_key or ''}
end

local again = false
if state == 'running' then
  if known.owner == owner then
    again = true
  elseif tonumber(known.lease) > now then
    return left('busy')
  elseif not string.find(known.owner, '%.%d+$') then
    -- Its worker is gone, perhaps because of this very job, and the more so if it had a call under
    -- way. Of those that a call took along (`claim_batch.lua`) it was hardly one: a hundred would
    -- be blamed for each crash.
    local count = known.called == known.fence and 'crashes' or 'losses'
    add(answer, count, tostring(redis.call('HINCRBY', record, count, 1)))
  end
elseif not waits(state) then
  return left('ended')
elseif tonumber(known.due) > now and tonumber(known.woken or 0) < tonumber(known.due) then
  -- One that was woken once it was due is early only by a clock that has stepped back since.
  return {'early', ''}
end
if not again and hold(job) then return {'held', ''} end

-- A failover may have lost the intent of a call that left, with the claim. So what was accepted before
-- it is looked for before it is made, and an older call counts as having left now.
local accepted_in = known.history
if accepted_in then
  local present = history()
  local step = changing_step(known.kind)
  if accepted_in ~= '' and present ~= accepted_in and not known['step:' .. step] then
    local intent = known.intent and cjson.decode(known.intent)
      or {step = step, since = tonumber(known.created)}
    intent.at = now
    local text = cjson.encode(intent)
    redis.call('HSET', record, 'intent', text)
    add(answer, 'intent', text)
  end
  redis.call('HSET', record, 'history', present)
end

finish = place_starting
local claimed = run(record, job, answer, known, owner, lease, again)
-- After the first write that a full Redis refuses: once a script has written it takes the rest.
if batch_key then redis.call('ZREM', batch_key, job) end
if known.left then redis.call('HDEL', record, 'left') end
return {'claimed', now, claimed}
