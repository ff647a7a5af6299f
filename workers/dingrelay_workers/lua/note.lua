-- Note that a call with an effect is about to leave, with what earlier steps brought.
-- KEYS: record
-- ARGV: fence, note (JSON), then step and outcome of each finished step
-- Answers noted; or lost: the job is no longer this worker's; or cancelled: it was asked to be while
-- it ran, and no earlier call of it is open. Then the call must not leave.
local held = redis.call('HMGET', KEYS[1], 'state', 'fence', 'cancel', 'calling')
if held[1] ~= 'running' or held[2] ~= ARGV[1] then return 'lost' end
if held[3] and not held[4] then return 'cancelled' end
redis.call('HSET', KEYS[1], 'calling', ARGV[2])
for index = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], 'step:' .. ARGV[index], ARGV[index + 1]) end
return 'noted'
