-- The ends of jobs that a reader has not read. A new reader begins with the oldest and missed none.
-- Answers {mark, entries that were there before these, how many it missed, entries}: the first and second are for passing.
local added, length = size_of(stream)
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
-- A position from a stream that was lost since may be too high here.
return {mark, math.min(first, added - #entries), missed, entries}
