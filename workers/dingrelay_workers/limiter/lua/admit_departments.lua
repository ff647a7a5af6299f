-- Note which departments get a content today, and tell which have it already.
--
-- KEYS  1 departments that get this content today (department -> job), 2 the job's record
-- ARGV  1 job, 2 step, 3 milliseconds the key lives, 4 start of the day (ms), 5 the time (ms), empty
--       for the server's clock, 6 prefix of records, 7 1: send whatever they have had, then departments
--
-- Returns {'ok', verdict per department...}: 0 admitted, 1 has this content already; {'another day',
-- now}; {'wait', ms} around midnight; or {'busy'}: another job's call may
-- just be leaving. What another job reserved that does not run goes to this one.

local FIRST = 8
local job, step, prefix, anyway = ARGV[1], ARGV[2], ARGV[6], ARGV[7] == '1'
local now = tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local over = day_is_over(tonumber(ARGV[4]), now)
if over then return over end

local verdicts, takes = {'ok'}, {}
for i = FIRST, #ARGV do
  local owner, stands = redis.call('HGET', KEYS[1], ARGV[i]), 'free'
  if owner and owner ~= job then stands = standing(prefix .. owner, ARGV[i]) end
  if stands == 'runs' and not anyway then return {'busy'} end
  if stands == 'free' then takes[#takes + 1] = ARGV[i] end
  verdicts[#verdicts + 1] = (stands == 'sent' and not anyway) and 1 or 0
end
for _, department in ipairs(takes) do redis.call('HSET', KEYS[1], department, job) end
if #takes > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'reserved', step .. '\n' .. KEYS[1] .. '\n\n'
    .. table.concat(ARGV, ',', FIRST))
end
return verdicts
