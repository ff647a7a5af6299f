-- Reserve a content of today for departments, and tell which have it already.
--
-- KEYS: 1 departments that get this content today (department -> job), 2 the job's record
-- ARGV: 1 job, 2 owner, 3 fence, 4 step, 5 milliseconds the key lives, 6 start of the day (ms), 7 the
--       time (ms), empty for the server's clock, 8 prefix of records, 9 1: send whatever they have
--       had, then departments
--
-- Answers {'ok', verdict per department...}: 0 admitted, 1 has this content already; {'lost'}: the
-- job is no longer this owner's; {'another day', now}; {'wait', ms} around midnight; or {'busy'}:
-- another job's call may just be leaving. What another job reserved that does not run goes to this one.

local FIRST = 10
local taken, record = KEYS[1], KEYS[2]
local job, owner, fence, step, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local prefix, anyway = ARGV[8], ARGV[9] == '1'
local state, before = owned(record, owner, fence, 'reserved')
if state ~= 'running' then return {'lost'} end
local over = day_is_over(ARGV[6], ARGV[7])
if over then return over end
local reserved = reservation(step, taken, '', ARGV, FIRST)
reserve_instead(record, job, before, reserved)

local verdicts, takes = {'ok'}, {}
for i = FIRST, #ARGV do
  local holder, stands = redis.call('HGET', taken, ARGV[i]), 'free'
  if holder and holder ~= job then stands = standing(prefix .. holder, ARGV[i]) end
  if stands == 'runs' and not anyway then return {'busy'} end
  if stands == 'free' then takes[#takes + 1] = ARGV[i] end
  verdicts[#verdicts + 1] = (stands == 'sent' and not anyway) and 1 or 0
end
for _, department in ipairs(takes) do redis.call('HSET', taken, department, job) end
if #takes > 0 then redis.call('PEXPIRE', taken, ttl) end
redis.call('HSET', record, 'reserved', reserved)
return verdicts
