-- Write the intent: a call with an effect is about to leave, with what earlier steps brought.
-- KEYS: record
-- ARGV: owner, fence, intent (JSON, to which the time is added: when the call leaves, and since when
--       one may have left), answered (1: no earlier call of the job is open any more), until when it
--       may leave (ms; 0: at any time), then step and outcome of each finished step
-- Answers written; or lost: the job is no longer this owner's; or cancelled: it was asked to be
-- while it ran, and no earlier call of it is open; or late. Then the call must not leave.
local record, owner, fence, intent, answered = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local leaves_until = tonumber(ARGV[5])
local state, cancelled, open, requeued = owned(record, owner, fence, 'cancel', 'intent', 'requeued')
if state ~= 'running' then return 'lost' end
if cancelled and (answered or not open) then return 'cancelled' end
if leaves_until > 0 and now >= leaves_until then return 'late' end
local document = cjson.decode(intent)
document.at = document.at or now
document.since = document.since or document.at
local fields = {'intent', cjson.encode(document), 'called', fence}
for index = 6, #ARGV, 2 do add(fields, 'step:' .. ARGV[index], ARGV[index + 1]) end
write(record, fields)
if requeued then redis.call('HDEL', record, 'requeued') end
return 'written'
