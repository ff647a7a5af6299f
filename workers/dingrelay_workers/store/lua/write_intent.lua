-- Write the intent: a call with an effect is about to leave, with what earlier steps brought. The document gets the time
-- at which the call leaves, and since when one may have left.
-- Answers written; or lost: the job is no longer this owner's; or cancelled: it was asked to be
-- while it ran, and no earlier call of it is open; or late. Then the call must not leave.
local state, cancelled, open, requeued, called =
  owned(record, owner, fence, 'cancel', 'intent', 'requeued', 'called')
if state ~= 'running' then return 'lost' end
if cancelled and (answered or not open) then return 'cancelled' end
if leaves_until and now >= leaves_until then return 'late' end
local document = cjson.decode(intent)
document.at = document.at or now
document.since = document.since or document.at
local fields = {'intent', cjson.encode(document), 'called', fence}
add_steps(fields, steps, called)
write(record, fields)
if requeued then redis.call('HDEL', record, 'requeued') end
return 'written'
