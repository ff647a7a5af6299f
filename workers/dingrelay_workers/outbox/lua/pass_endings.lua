-- A reader has read up to an entry; what all readers have read goes.
-- KEYS: endings, up to where each reader has read
-- ARGV: reader, its mark before, id of the entry, its number, ttl (ms), readers to wait for that have no
--       mark yet
-- Returns 1, or 0 if another reader of that name went on in between.
local stream, marks = KEYS[1], KEYS[2]
local reader, before, last, number, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if redis.call('HGET', marks, reader) ~= before then return 0 end
redis.call('HSET', marks, reader, last .. ' ' .. number)
redis.call('PEXPIRE', marks, ttl)
if redis.call('EXISTS', stream) == 0 then return 1 end
local info, reply = {}, redis.call('XINFO', 'STREAM', stream)
for index = 1, #reply, 2 do info[reply[index]] = reply[index + 1] end
local added = info['entries-added']
-- Theirs are the marks that `read_endings.lua` gives at a first look.
for index = 6, #ARGV do redis.call('HSETNX', marks, ARGV[index], '0-0 ' .. (added - info['length'])) end
local slowest, time, place = last, string.match(last, '^(%d+)%-(%d+)$')
for _, mark in ipairs(redis.call('HVALS', marks)) do
  local own_time, own_place, read = string.match(mark, '^(%d+)%-(%d+) (%d+)$')
  -- Of a stream that was lost since: that reader has read nothing of this one.
  if tonumber(read) > added then return 1 end
  if tonumber(own_time) < tonumber(time) or own_time == time and tonumber(own_place) < tonumber(place) then
    slowest, time, place = own_time .. '-' .. own_place, own_time, own_place
  end
end
redis.call('XTRIM', stream, 'MINID', slowest)
return 1
