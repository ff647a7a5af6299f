-- Look up which users have a content today or are just getting it, and which get no more messages. Changes nothing.
-- Answers a character for each user: 1 has the content, 2 the day's most is reached, 0 neither.

local sends, everyone_has, found = redis.call('HVALS', everyone_today), {}, {}
for _, content in ipairs(sends) do everyone_has[content] = true end

local function had(user, content)
  local key, digest = had_by(received, content, user)
  return everyone_has[content] or redis.call('SISMEMBER', key, digest) == 1
    or redis.call('HEXISTS', called .. content, user) == 1
end

for _, message in ipairs(messages) do
  local code = '0'
  if had(message.user, message.content) then
    code = '1'
  else
    local key, digest = counted(received, message.user)
    if (tonumber(redis.call('HGET', key, digest)) or 0) + #sends >= most then code = '2' end
  end
  found[#found + 1] = code
end
return table.concat(found)
