-- The pauses of now: name, end, since when, person.
local answer = {}
local all = redis.call('HGETALL', paused)
for index = 1, #all, 2 do
  local ends, since, person = string.match(all[index + 1], '^(%d+) (%d+) (.*)$')
  if ends and tonumber(ends) > now then answer[#answer + 1] = {all[index], tonumber(ends), tonumber(since), person} end
end
return answer
