-- Tell which users a campaign's message would reach today. Costs no memory for them.
--
-- KEYS  who gets this content today (userid -> job), notifications of the day (userid -> count),
--       jobs that send to everyone today, campaigns that send today (campaign -> content)
-- ARGV  1 campaign, 2 its content, 3 empty if that differs from chunk to chunk, else the same,
--       4 notifications a user may get a day, 5 milliseconds the last key lives, then userids
--
-- Returns for each user: 0 would get it, 1 has this content already, 2 has had the day's messages,
-- 3 a campaign of this content may have reached them. Registers the campaign: whoever it reaches,
-- it is one notification more for every user.

if redis.call('HSETNX', KEYS[4], ARGV[1], ARGV[3]) == 1 then
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
end
local cap, alike = tonumber(ARGV[4]) - redis.call('HLEN', KEYS[3]), false
local campaigns = redis.call('HGETALL', KEYS[4])
for i = 1, #campaigns, 2 do
  if campaigns[i] ~= ARGV[1] then
    cap = cap - 1
    alike = alike or campaigns[i + 1] == ARGV[2]
  end
end

local verdicts = {}
for i = 6, #ARGV do
  local user, verdict = ARGV[i], 0
  if redis.call('HEXISTS', KEYS[1], user) == 1 then
    verdict = 1
  elseif (tonumber(redis.call('HGET', KEYS[2], user)) or 0) >= cap then
    verdict = 2
  elseif alike then
    verdict = 3
  end
  verdicts[#verdicts + 1] = verdict
end
return verdicts
