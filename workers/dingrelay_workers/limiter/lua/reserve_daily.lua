-- Reserve the day's silent limits of work notifications for some users.
--
-- KEYS: 1 who gets this content today (user -> job), 2 notifications of the day (user -> count),
--       3 jobs that send to everyone today (job -> content), 4 campaigns that send today
--       (campaign -> content): each is one notification more for every user, 5 contents of
--       campaigns with fields (start of the content -> campaigns), 6 departments that get this content today
--       (department -> job), 7 who may be near the cap (user -> calls of campaigns to them since),
--       8 the job's record
-- ARGV: 1 job, 2 owner, 3 fence, 4 step, 5 its content, 6 notifications a user may get a day,
--       7 milliseconds the keys live, 8 start of the day (ms), 9 the time (ms), empty for the
--       server's clock, 10 prefix of records, 11 1: send whatever they have had, 12 what was found
--       out of those who may be near the cap, as JSON (near_cap.lua), or empty, then users
--
-- Answers {'ok', campaigns of this content, whether a department may have it, verdict per user...}:
-- 0 admitted, 1 has this content already, 2 has had the day's messages. Or {'lost'}: the
-- job is no longer this owner's, {'another day', now}, {'wait', ms} around midnight, {'busy'}: a
-- job that runs may just be calling one of them, or {'near', ...} of near_cap.lua. Then nothing is
-- reserved.
-- Who was admitted for this job before is admitted again and counted once. What another job
-- reserved that does not run goes to this one: that one asks again before it calls.

local FIRST = 13
local taken, received, to_everyone, campaigns_today = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local contents, departments_today, near, record = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local job, owner, fence, step, content = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local cap, ttl, prefix, anyway = tonumber(ARGV[6]), ARGV[7], ARGV[10], ARGV[11] == '1'
local state, before = owned(record, owner, fence, 'reserved')
if state ~= 'running' then return {'lost'} end
local over = day_is_over(ARGV[8], ARGV[9])
if over then return over end
local reserved = reservation(step, taken, received, ARGV, FIRST)
reserve_instead(record, job, before, reserved)

local everyone_has_it, campaigns, departments, of_campaigns = false, '', 0, 0
-- EXISTS counts a key as often as it is named.
local known = redis.call('EXISTS', to_everyone, campaigns_today, contents, departments_today,
  received, received, received, received, received)
if known % 5 > 0 then
  local sends = redis.call('HGETALL', to_everyone)
  for i = 1, #sends, 2 do
    local stands = standing(prefix .. sends[i], '')
    if stands ~= 'free' then cap = cap - 1 end
    if sends[i + 1] == content then
      if stands == 'runs' and not anyway then return {'busy'} end
      everyone_has_it = everyone_has_it or (stands == 'sent' and not anyway)
    end
  end
  sends = redis.call('HGETALL', campaigns_today)
  of_campaigns = #sends / 2
  campaigns = redis.call('HGET', contents, string.sub(content, 1, 16)) or ''
  for i = 1, #sends, 2 do
    if sends[i + 1] == content then campaigns = campaigns .. ',' .. sends[i] end
  end
  sends = redis.call('HGETALL', departments_today)
  for i = 1, #sends, 2 do
    if sends[i + 1] ~= job and standing(prefix .. sends[i + 1], sends[i]) ~= 'free' then
      departments = 1
    end
  end
end

local verdicts, own, gets, fresh, doubtful = {}, {}, {}, {}, {}
local found = ARGV[12] ~= '' and cjson.decode(ARGV[12]) or {}
local users = {unpack(ARGV, FIRST)}
local holders = redis.call('HMGET', taken, unpack(users))
local counts = redis.call('HMGET', received, unpack(users))
for i, user in ipairs(users) do
  local verdict, holder, had = 0, holders[i], tonumber(counts[i] or 0)
  if holder == job then
    own[#own + 1] = user
    if everyone_has_it then verdict = 1 end
  elseif holder then
    local stands = standing(prefix .. holder, user)
    if stands == 'runs' and not anyway then return {'busy'} end
    if stands == 'sent' then
      verdict = 1
    elseif stands == 'free' then
      if everyone_has_it then verdict = 1 else gets[#gets + 1], gets[#gets + 2] = user, job end
    end
  elseif everyone_has_it then
    verdict = 1
  else
    local at = 'below'
    if not anyway then at = stands_to(cap, had, of_campaigns, near, found, user) end
    if at == 'below' then
      gets[#gets + 1], gets[#gets + 2] = user, job
      fresh[#fresh + 1], fresh[#fresh + 2] = user, had + 1
    elseif at == 'at' then
      verdict = 2
    else
      doubtful[#doubtful + 1] = user
    end
  end
  verdicts[#verdicts + 1] = anyway and 0 or verdict
end

if #doubtful > 0 then return ask_about(doubtful, campaigns_today, near, ttl) end

if everyone_has_it then
  for _, user in ipairs(own) do forget(taken, received, user) end
end
if #gets > 0 then redis.call('HSET', taken, unpack(gets)) end
if #fresh > 0 then
  redis.call('HSET', received, unpack(fresh))
  if known < 5 then redis.call('PEXPIRE', received, ttl) end
end
if #own + #gets > 0 then
  redis.call('PEXPIRE', taken, ttl)
  redis.call('HSET', record, 'reserved', reserved)
end
return {'ok', campaigns, departments, unpack(verdicts)}
