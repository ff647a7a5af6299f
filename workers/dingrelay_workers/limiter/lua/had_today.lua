-- Look up which users have a content today or are just getting it, and which get no more messages. Changes nothing.
--
-- KEYS: 1 jobs that send to everyone today (job -> content)
-- ARGV: 1 the beginning of the day's keys, whose shards follow from the users (`reservations.lua`), 2 the beginning of
--       the keys of who is called with a content now (user -> job), 3 most messages of a user a day, then users,
--       each before its content
--
-- Answers a character for each user: 1 has the content, 2 the day's most is reached, 0 neither.

local received, called, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local sends, everyone_has, found = redis.call('HVALS', KEYS[1]), {}, {}
for _, content in ipairs(sends) do everyone_has[content] = true end

local function had(user, content)
  local key, digest = had_by(received, content, user)
  return everyone_has[content] or redis.call('SISMEMBER', key, digest) == 1
    or redis.call('HEXISTS', called .. content, user) == 1
end

for at = 4, #ARGV, 2 do
  local code = '0'
  if had(ARGV[at], ARGV[at + 1]) then
    code = '1'
  else
    local key, digest = counted(received, ARGV[at])
    if (tonumber(redis.call('HGET', key, digest)) or 0) + #sends >= most then code = '2' end
  end
  found[#found + 1] = code
end
return table.concat(found)
