-- Replace a person who paused lanes until a moment by another name. Answers how many pauses have it now.
local changed = 0
local all = redis.call('HGETALL', paused)
for index = 1, #all, 2 do
  local ends, since, by = string.match(all[index + 1], '^(%d+) (%d+) (.*)$')
  if by == person and tonumber(since) <= latest then
    redis.call('HSET', paused, all[index], ends .. ' ' .. since .. ' ' .. name)
    changed = changed + 1
  end
end
return changed
