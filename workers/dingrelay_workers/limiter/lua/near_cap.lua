-- Who has had the day's messages: for the scripts that this is put before.
--
-- Who is in a campaign is known in SQL only. So whoever would be at the cap if all campaigns of the day
-- had reached them is `doubtful`: SQL is asked how many have, and the script called again. A campaign may
-- call them meanwhile. `near` tells: user -> calls of campaigns to them since somebody first asked.

-- Where a user stands: `below` the cap, `at` it, or `doubtful`. `found` is what SQL told: user -> their
-- entry in `near` as it was before, and how many campaigns have reached them.
local function stands_to(cap, had, campaigns, near, found, user)
  if had >= cap then return 'at' end
  if had + campaigns < cap then return 'below' end
  local counted = found[user]
  if not counted or redis.call('HGET', near, user) ~= counted[1] then return 'doubtful' end
  return had + counted[2] < cap and 'below' or 'at'
end

-- The answer that asks about users: {'near', the day's campaigns, then each user and their entry}.
local function ask_about(users, campaigns_today, near, ttl)
  local answer = {'near', table.concat(redis.call('HKEYS', campaigns_today), ',')}
  for _, user in ipairs(users) do
    redis.call('HSETNX', near, user, 0)
    answer[#answer + 1] = user
    answer[#answer + 1] = redis.call('HGET', near, user)
  end
  redis.call('PEXPIRE', near, ttl)
  return answer
end

-- A campaign's call to these users is let through: whoever asks SQL about them asks again.
local function note_call(users, near)
  if redis.call('EXISTS', near) == 0 then return end
  for _, user in ipairs(users) do
    if redis.call('HEXISTS', near, user) == 1 then redis.call('HINCRBY', near, user, 1) end
  end
end
