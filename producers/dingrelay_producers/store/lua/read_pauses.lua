-- The pauses of now: name, end, since when, person.
local answer = {}
for _, pause in ipairs(stored_pauses()) do
  if pause.ends > now then answer[#answer + 1] = {pause.name, pause.ends, pause.since, pause.person} end
end
return answer
