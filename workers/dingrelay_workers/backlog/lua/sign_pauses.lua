-- Replace a person who paused lanes until a moment by another name. Answers how many pauses have it now.
local changed = 0
for _, pause in ipairs(stored_pauses()) do
  if pause.person == person and pause.since <= latest then
    store_pause(pause.name, pause.ends, pause.since, name, pause.reason)
    changed = changed + 1
  end
end
return changed
