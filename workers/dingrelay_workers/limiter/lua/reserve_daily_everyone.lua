-- Reserve one of the day's sends to everyone.
--
-- KEYS: 1 jobs that send to everyone today (job -> content), 2 the job's record
-- ARGV: 1 job, 2 step, 3 its content, 4 sends a day, 5 milliseconds the key lives, 6 start of the
--       day (ms), 7 the time (ms), empty for the server's clock, 8 prefix of records, 9 1: send
--       whatever they have had
--
-- Answers {'ok', 0 admitted, 1 everyone has this content already, 2 the sends of the day are used
-- up}, {'another day', now}, {'wait', ms} around midnight, or {'busy'}: another job's call may just be
-- leaving. A job that was let through before is let through again.

local to_everyone, record = KEYS[1], KEYS[2]
local job, step, content, ttl, prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[5], ARGV[8]
local most, anyway = tonumber(ARGV[4]), ARGV[9] == '1'
local over = day_is_over(ARGV[6], ARGV[7])
if over then return over end

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
if redis.call('EXISTS', record) == 1 then
  redis.call('HSET', record, 'reserved', step .. '\n' .. to_everyone .. '\n\n')
end
return {'ok', 0}
