-- Reserve the day's silent limits of work notifications for some users.
--
-- KEYS  who gets this content today (userid -> job), notifications of the day (userid -> count),
--       jobs that send to everyone today (job -> 1) and campaigns that send today (campaign ->
--       content): each is one notification more for every user
-- ARGV  1 job, 2 notifications a user may get a day, 3 milliseconds the keys live,
--       4 the content, empty for users that no campaign of it has reached, then userids
--
-- Returns for each user: 0 admitted, 1 has this content already, 2 has had the day's messages,
-- 3 a campaign of this content may have reached them: nothing is reserved.
-- Who was admitted for this job before is admitted again and counted once.

local job, ttl = ARGV[1], ARGV[3]
local cap, alike = tonumber(ARGV[2]) - redis.call('HLEN', KEYS[3]) - redis.call('HLEN', KEYS[4]), false
if ARGV[4] ~= '' then
  for _, content in ipairs(redis.call('HVALS', KEYS[4])) do alike = alike or content == ARGV[4] end
end
local verdicts = {}

for i = 5, #ARGV do
  local user, verdict = ARGV[i], 0
  local owner = redis.call('HGET', KEYS[1], user)
  if owner then
    if owner ~= job then verdict = 1 end
  elseif (tonumber(redis.call('HGET', KEYS[2], user)) or 0) >= cap then
    verdict = 2
  elseif alike then
    verdict = 3
  else
    redis.call('HSET', KEYS[1], user, job)
    redis.call('HINCRBY', KEYS[2], user, 1)
  end
  verdicts[#verdicts + 1] = verdict
end

redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('PEXPIRE', KEYS[2], ttl)
return verdicts
