-- The ends of jobs that a reader has not read; or it has read up to an entry, and what all readers have read goes.
-- KEYS: endings, up to where each reader has read
-- ARGV: read, reader, ttl of the second key (ms), most entries; or
--       pass, reader, ttl of the second key (ms), its mark before, id of the entry, its number, then readers to
--       wait for that have no mark yet
-- Answers to read {mark, entries that were there before these, how many it missed, entries}: the first and
-- second are for passing. A new reader begins with the oldest and missed none. To pass 1, or 0 if another reader
-- of that name went on in between.
--
-- A reader has a mark from its first look on, also where there is nothing to read: what other readers pass
-- stays until this one has read it, too. A mark is the id of an entry and its number. Entries leave at
-- the front only, so the first one's number follows from how many were ever added.
local stream, marks = KEYS[1], KEYS[2]
local verb, reader, ttl = ARGV[1], ARGV[2], ARGV[3]

-- How many entries were ever added, and how many are there.
local function size()
  if redis.call('EXISTS', stream) == 0 then return 0, 0 end
  local info, reply = {}, redis.call('XINFO', 'STREAM', stream)
  for index = 1, #reply, 2 do info[reply[index]] = reply[index + 1] end
  return info['entries-added'], info['length']
end

local added, length = size()
local gone = added - length
local mark = redis.call('HGET', marks, reader)

if verb == 'read' then
  local most = ARGV[4]
  if not mark then
    mark = '0-0 ' .. gone
    redis.call('HSET', marks, reader, mark)
    redis.call('PEXPIRE', marks, ttl)
  end
  local last, number = string.match(mark, '^(%S+) (%d+)$')
  number = tonumber(number)
  -- The stream was lost since, or a part of it with a failover: its entries are read again.
  if number > added then last, number = '0-0', gone end
  local missed = math.max(0, gone - number)
  local first = math.max(number, gone)
  if length == 0 then return {mark, first, missed, {}} end
  local entries = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', most)
  -- A position from a stream that was lost since may be too high here.
  return {mark, math.min(first, added - #entries), missed, entries}
end

local before, last, number = ARGV[4], ARGV[5], ARGV[6]
if mark ~= before then return 0 end
redis.call('HSET', marks, reader, last .. ' ' .. number)
redis.call('PEXPIRE', marks, ttl)
if length == 0 and added == 0 then return 1 end
for index = 7, #ARGV do redis.call('HSETNX', marks, ARGV[index], '0-0 ' .. gone) end
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
