-- Tell which users a campaign's message would reach today. Costs no memory for them.
--
-- KEYS: as of reserve_daily.lua, but for the record
-- ARGV: 1 campaign, 2 its content, 3 1 if that is the same in all its calls, 4 notifications a user
--       may get a day, 5 milliseconds the keys live, 6 start of the day (ms), 7 the time (ms), empty
--       for the server's clock, 8 prefix of records, 9 as 12 of reserve_daily.lua, then users
--
-- Answers as reserve_daily.lua. Registers the campaign: it may be one notification more for every user.
-- What a job reserved that does not run is taken from it: it asks again before it calls.

local FIRST = 10
local taken, received, to_everyone = KEYS[1], KEYS[2], KEYS[3]
local campaigns_today, contents, near = KEYS[4], KEYS[5], KEYS[7]
local campaign, content, ttl, prefix = ARGV[1], ARGV[2], ARGV[5], ARGV[8]
local cap, uniform = tonumber(ARGV[4]), ARGV[3] == '1'
local found = ARGV[9] ~= '' and cjson.decode(ARGV[9]) or {}
local over = day_is_over(ARGV[6], ARGV[7])
if over then return over end

if redis.call('HSETNX', campaigns_today, campaign, uniform and content or '') == 1 then
  redis.call('PEXPIRE', campaigns_today, ttl)
end
local brief = string.sub(content, 1, 16)
local campaigns = redis.call('HGET', contents, brief) or ''
if not uniform and not string.find(',' .. campaigns .. ',', ',' .. campaign .. ',', 1, true) then
  redis.call('HSET', contents, brief, campaigns == '' and campaign or campaigns .. ',' .. campaign)
  redis.call('PEXPIRE', contents, ttl)
end
local sends = redis.call('HGETALL', campaigns_today)
local of_campaigns = 0
for i = 1, #sends, 2 do
  if sends[i] ~= campaign then
    of_campaigns = of_campaigns + 1
    if sends[i + 1] == content then campaigns = campaigns .. ',' .. sends[i] end
  end
end

local everyone_has_it = false
sends = redis.call('HGETALL', to_everyone)
for i = 1, #sends, 2 do
  local stands = standing(prefix .. sends[i], '')
  if stands ~= 'free' then cap = cap - 1 end
  if sends[i + 1] == content then
    if stands == 'runs' then return {'busy'} end
    everyone_has_it = everyone_has_it or stands == 'sent'
  end
end

local answer, free, doubtful, called = {'ok', campaigns, 0}, {}, {}, {}
for i = FIRST, #ARGV do
  local user, verdict = ARGV[i], 0
  local owner = redis.call('HGET', taken, user)
  local stands = owner and standing(prefix .. owner, user)
  if stands == 'runs' then return {'busy'} end
  if stands == 'free' then free[#free + 1] = user end
  if stands == 'sent' or everyone_has_it then
    verdict = 1
  else
    local had = (tonumber(redis.call('HGET', received, user)) or 0) - (stands and 1 or 0)
    local at = stands_to(cap, had, of_campaigns, near, found, user)
    if at == 'at' then verdict = 2 end
    if at == 'below' then called[#called + 1] = user end
    if at == 'doubtful' then doubtful[#doubtful + 1] = user end
  end
  answer[#answer + 1] = verdict
end
if #doubtful > 0 then return ask_about(doubtful, campaigns_today, near, ttl) end

note_call(called, near)
for _, user in ipairs(free) do forget(taken, received, user) end
return answer
