-- How far a queue has come, for the script that this is put before.

-- When the latest of the wake-ups that were started in a slot had been published, for the last SLOTS of
-- them, and before those. What was published before a wake-up that was started a grace ago should have been
-- started too (`schedule.lua`). It is read once a run, and written a few times a slot, not for each job.
local known_progress = {}

local function note_started(progress, woken, slot_ms)
  local slot = math.floor(now / slot_ms)
  local field = 's' .. slot % SLOTS
  local noted = known_progress[progress] or redis.call('HMGET', progress, field, 'passed', 'started')
  known_progress[progress] = noted
  local known_slot, latest = string.match(noted[1] or '', '^(%d+) (%d+)$')
  local same_slot = known_slot == tostring(slot)
  local passed = tonumber(noted[2] or 0)
  if not same_slot and latest and (tonumber(latest) > passed or passed > now) then
    redis.call('HSET', progress, 'passed', latest)
  end
  local pause = slot_ms / 8
  if not same_slot or woken >= latest + pause or now >= (noted[3] or 0) + pause then
    latest = same_slot and math.max(latest, woken) or woken
    noted[1], noted[3] = string.format('%.0f %.0f', slot, latest), now
    redis.call('HSET', progress, field, noted[1], 'started', now)
    redis.call('PEXPIRE', progress, PROGRESS_TTL)
  end
end

