-- Claim jobs that were woken for their turn and whose wake-ups have not been started in time.
-- KEYS: jobs of a lane that were woken and have not had their call
-- ARGV: owner, lease, queue of the jobs, how many at most, how long ago they were woken at least (times in ms)
-- Answers {now, {id, {field, value, ...}}...}.
local coming = KEYS[1]
local owner, lease, queue = ARGV[1], ARGV[2], ARGV[3]
local most, late = tonumber(ARGV[4]), tonumber(ARGV[5])

local answer = {now}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', coming, '-inf', now - late)) do
  if #answer > most then break end
  local record = JOB .. id
  local flat, known = read(record)
  if known.state == 'snoozed' and known.turn == coming and known.queue == queue
      and known_here(known.v, known.kind) then
    answer[#answer + 1] = {id, run(record, id, flat, known, owner .. '-' .. #answer, lease, false)}
    if known.batch_key then redis.call('ZREM', known.batch_key, id) end
  end
end
place_starting()
return answer
