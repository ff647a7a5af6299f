-- running → an end.
-- KEYS: record, dead
-- ARGV: id, owner, fence, state, attempts made, throttles met, result (JSON or ''),
--       error (JSON or ''), answered (1: no call is open any more), ttl, ttl of the dead (ms),
--       then step and outcome of each finished step
-- Answers 1, or 0 if the job is no longer this owner's. Saying the same twice is fine: the first
-- answer may have been lost.
local record, dead = KEYS[1], KEYS[2]
local id, owner, fence, state, attempts, throttles = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local result, error, answered, ttl, dead_ttl = ARGV[7], ARGV[8], ARGV[9] == '1', ARGV[10], ARGV[11]

local current, queue, bare, spent, met, kind, app, sender, reserved = owned(record, owner, fence,
  'queue', 'bare', 'attempts', 'throttles', 'kind', 'app', 'sender', 'reserved')
if current == state then return 1 end
if current ~= 'running' then return 0 end

local values = {'state', state, 'settled', now,
  'attempts', (spent or 0) + attempts, 'throttles', (met or 0) + throttles}
local over = {answered and 'intent' or nil}
if result ~= '' then add(values, 'result', result) end
if error ~= '' then
  add(values, 'error', error)
else
  over[#over + 1] = 'error'
end
for index = 12, #ARGV, 2 do add(values, 'step:' .. ARGV[index], ARGV[index + 1]) end
write(record, values)
-- Whatever a job reserved that is done was sent.
local sent = reserved and state == 'done'
if sent then over[#over + 1] = 'reserved' end
if #over > 0 then redis.call('HDEL', record, unpack(over)) end
if sent then
  local _, taken, received, users = parts(reserved)
  keep_sent(id, taken, received, users)
elseif reserved and state ~= 'unknown' then
  give_back(record, id)
end

add(leaving, id, queue)
finish = leave_running
keep_ended(record, id, state, now, bare, dead, ttl, dead_ttl)
publish_end(id, state, kind, app, sender)
return 1
