-- The pauses of now: name, end, since when, person, reason.
local answer = {}
for _, pause in ipairs(stored_pauses()) do
  if pause.ends > now then answer[#answer + 1] = {pause.name, pause.ends, pause.since, pause.person, pause.reason} end
end
return answer
