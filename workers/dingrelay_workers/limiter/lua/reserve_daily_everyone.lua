-- Reserve one of the day's sends to everyone.
--
-- KEYS: 1 jobs that send to everyone today (job -> content), 2 the job's record
-- ARGV: 1 job, 2 owner, 3 fence, 4 step, 5 its content, 6 sends a day, 7 milliseconds the key lives,
--       8 start of the day (ms), 9 the time (ms), empty for the server's clock, 10 prefix of records,
--       11 1: send whatever they have had
--
-- Answers {'ok', 0 admitted, 1 everyone has this content already, 2 the sends of the day are used
-- up}, {'lost'}: the job is no longer this owner's, {'another day', now}, {'wait', ms} around
-- midnight, or {'busy'}: another job's call may just be leaving. A job that was let through before is let through again.

local to_everyone, record = KEYS[1], KEYS[2]
local job, owner, fence, step, content = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local most, ttl, prefix, anyway = tonumber(ARGV[6]), ARGV[7], ARGV[10], ARGV[11] == '1'
local state, before = owned(record, owner, fence, 'reserved')
if state ~= 'running' then return {'lost'} end
local over = day_is_over(ARGV[8], ARGV[9])
if over then return over end
local reserved = reservation(step, to_everyone, '', {}, 1)
reserve_instead(record, job, before, reserved)

local sent, coming, free = 0, 0, {}
local sends = redis.call('HGETALL', to_everyone)
for i = 1, #sends, 2 do
  if sends[i] ~= job then
    local stands = standing(prefix .. sends[i], '')
    if sends[i + 1] == content and not anyway then
      if stands == 'sent' then return {'ok', 1} end
      if stands == 'runs' then return {'busy'} end
    end
    if stands == 'sent' then
      sent = sent + 1
    elseif stands == 'runs' then
      coming = coming + 1
    else
      free[#free + 1] = sends[i]
    end
  end
end
if not anyway then
  if sent >= most then return {'ok', 2} end
  if sent + coming >= most then return {'busy'} end
end

-- Those that do not run ask again before they call.
for _, other in ipairs(free) do redis.call('HDEL', to_everyone, other) end
redis.call('HSET', to_everyone, job, content)
redis.call('PEXPIRE', to_everyone, ttl)
redis.call('HSET', record, 'reserved', reserved)
return {'ok', 0}
