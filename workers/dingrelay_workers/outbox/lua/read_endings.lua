-- The ends of jobs that a reader has not read.
-- KEYS: endings, up to where each reader has read
-- ARGV: reader, most entries, ttl of the second key (ms)
-- Answers {mark, entries that were there before these, how many it missed, entries}: the first and
-- second are for `pass_endings.lua`. A new reader begins with the oldest and missed none.
--
-- It has a mark from its first look on, also where there is nothing to read: what other readers pass
-- stays until this one has read it, too. A mark is the id of an entry and its number. Entries leave at
-- the front only, so the first one's number follows from how many were ever added.
local stream, marks = KEYS[1], KEYS[2]
local reader, most, ttl = ARGV[1], ARGV[2], ARGV[3]

local added, length = 0, 0
if redis.call('EXISTS', stream) == 1 then
  local info, reply = {}, redis.call('XINFO', 'STREAM', stream)
  for index = 1, #reply, 2 do info[reply[index]] = reply[index + 1] end
  added, length = info['entries-added'], info['length']
end
local gone = added - length

local mark = redis.call('HGET', marks, reader)
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
-- What was counted in a stream that was lost since may be too high a number here.
return {mark, math.min(first, added - #entries), missed, entries}
