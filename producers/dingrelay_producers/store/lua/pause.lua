-- Pause a lane, or a sender in it; another pause of the same name is over by that. Answers the end, since when and
-- why, or late | far where the end is no moment of the time for which a pause may last.
local until_then = ends or now + usual
if until_then <= now then return 'late' end
if until_then > now + longest then return 'far' end
local since, why = now, reason
for _, pause in ipairs(stored_pauses()) do
  if pause.name == name and pause.ends > now then
    since = pause.since
    if why == '' then why = pause.reason end
  end
end
store_pause(name, until_then, since, person, why)
redis.call('PEXPIRE', PAUSES, HELD_TTL)
return {until_then, since, why}
