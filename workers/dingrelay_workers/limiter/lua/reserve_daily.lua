-- Reserve the day's silent limits of work notifications for some users.
--
-- KEYS: 1 who is called with this content now (user -> job), 2 jobs that send to everyone today
--       (job -> content), 3 departments that get this content today (department -> job), 4 the job's record
-- ARGV: 1 job, 2 owner, 3 fence, 4 step, 5 its content, 6 notifications a user may get a day,
--       7 milliseconds the keys live, 8 start of the day (ms), 9 the time (ms), empty for the
--       server's clock, 10 prefix of records, 11 1: send whatever they have had, 12 the beginning of
--       the day's keys, whose shards follow from the users (`reservations.lua`), then users
--
-- Answers {'ok', whether a department may have it, verdict per user...}: 0 admitted, 1 has this content
-- already, 2 has had the day's messages. Or {'lost'}: the job is no longer this owner's, {'another day',
-- now}, {'wait', ms} around midnight, or {'busy'}: a job that runs may just be calling one of them. Then
-- nothing is reserved.
-- People admitted for this job before are admitted again and counted once. Reservations of another job
-- that does not run go to this one: that one reserves again before it calls.

local FIRST = 13
local taken, to_everyone, departments_today, record = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local job, owner, fence, step, content = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local cap, ttl, prefix, anyway = tonumber(ARGV[6]), ARGV[7], ARGV[10], ARGV[11] == '1'
local received = ARGV[12]
local state, before = owned(record, owner, fence, 'reserved')
if state ~= 'running' then return {'lost'} end
local over = day_is_over(ARGV[8], ARGV[9])
if over then return over end
local reserved = reservation(step, taken, received, ARGV, FIRST)
reserve_instead(record, job, before, reserved)

local everyone_has_it, departments = false, 0
if redis.call('EXISTS', to_everyone, departments_today) > 0 then
  local sends = redis.call('HGETALL', to_everyone)
  for i = 1, #sends, 2 do
    local stands = standing(prefix .. sends[i], '')
    if stands ~= 'free' then cap = cap - 1 end
    if sends[i + 1] == content then
      if stands == 'runs' and not anyway then return {'busy'} end
      everyone_has_it = everyone_has_it or (stands == 'sent' and not anyway)
    end
  end
  sends = redis.call('HGETALL', departments_today)
  for i = 1, #sends, 2 do
    if sends[i + 1] ~= job and standing(prefix .. sends[i + 1], sends[i]) ~= 'free' then
      departments = 1
    end
  end
end

local verdicts, own, gets, fresh = {}, {}, {}, {}
local users = {unpack(ARGV, FIRST)}
local holders = redis.call('HMGET', taken, unpack(users))
for i, user in ipairs(users) do
  local verdict, holder = 0, holders[i]
  local stands = holder and holder ~= job and standing(prefix .. holder, user)
  if holder == job then
    own[#own + 1] = user
    if everyone_has_it then verdict = 1 end
  elseif stands == 'runs' and not anyway then
    return {'busy'}
  elseif stands == 'sent' or everyone_has_it then
    verdict = 1
  elseif stands == 'free' then
    gets[#gets + 1], gets[#gets + 2] = user, job
  elseif not stands and redis.call('SISMEMBER', had_by(received, content, user)) == 1 then
    verdict = 1
  elseif not stands then
    local key, digest = counted(received, user)
    if not anyway and tonumber(redis.call('HGET', key, digest) or 0) >= cap then
      verdict = 2
    else
      gets[#gets + 1], gets[#gets + 2] = user, job
      fresh[#fresh + 1], fresh[#fresh + 2] = key, digest
    end
  end
  verdicts[#verdicts + 1] = anyway and 0 or verdict
end

if everyone_has_it then
  for _, user in ipairs(own) do forget(taken, received, user) end
end
if #gets > 0 then redis.call('HSET', taken, unpack(gets)) end
for i = 1, #fresh, 2 do
  redis.call('HINCRBY', fresh[i], fresh[i + 1], 1)
  redis.call('PEXPIRE', fresh[i], ttl)
end
if #own + #gets > 0 then
  redis.call('PEXPIRE', taken, ttl)
  redis.call('HSET', record, 'reserved', reserved)
end
return {'ok', departments, unpack(verdicts)}
