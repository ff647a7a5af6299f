-- A reader has read the ends of jobs up to an entry, and what all readers have read goes.
-- Answers 1, or 0 if another reader of that name went on in between.
if redis.call('HGET', marks, reader) ~= mark then return 0 end
redis.call('HSET', marks, reader, last .. ' ' .. number)
redis.call('PEXPIRE', marks, ttl)
local added, length = size_of(stream)
if length == 0 and added == 0 then return 1 end
for _, other in ipairs(awaited) do redis.call('HSETNX', marks, other, '0-0 ' .. added - length) end
local slowest, time, place = last, string.match(last, '^(%d+)%-(%d+)$')
for _, other in ipairs(redis.call('HVALS', marks)) do
  local own_time, own_place, read = string.match(other, '^(%d+)%-(%d+) (%d+)$')
  -- The position is from a stream that was lost since: that reader has read nothing of this one.
  if tonumber(read) > added then return 1 end
  if tonumber(own_time) < tonumber(time) or own_time == time and tonumber(own_place) < tonumber(place) then
    slowest, time, place = own_time .. '-' .. own_place, own_time, own_place
  end
end
redis.call('XTRIM', stream, 'MINID', slowest)
return 1
