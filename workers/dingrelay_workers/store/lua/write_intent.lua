-- Write the intent: a call with an effect is about to leave, with what earlier steps brought. The document gets the time
-- at which the call leaves, and since when one may have left.
-- Answers written; or lost: the job is no longer this owner's; or cancelled: it was asked to be
-- while it ran, and no earlier call of it is open; or late; or unreserved: Redis has forgotten the reservation of this step.
-- Then the call must not leave.
local state, cancelled, open, requeued, called, reserved =
  owned(record, owner, fence, 'cancel', 'intent', 'requeued', 'called', 'reserved')
if state ~= 'running' then return 'lost' end
if cancelled and (answered or not open) then return 'cancelled' end
if leaves_until and now >= leaves_until then return 'late' end
if reserves and string.match(reserved or '', '^[^\n]*') ~= reserves then return 'unreserved' end
local document = cjson.decode(intent)
document.at = document.at or now
document.since = document.since or document.at
local fields = {'intent', cjson.encode(document), 'called', fence}
add_steps(fields, steps, called)
write(record, fields)
if requeued then redis.call('HDEL', record, 'requeued') end
return 'written'
