-- How far readers of the ends of jobs have read.
--
-- A reader has a mark from its first look on, also where there is nothing to read: what other readers pass
-- stays until this one has read it, too. A mark is the id of an entry and its number. Entries leave at
-- the front only, so the first one's number follows from how many were ever added.

-- How many entries were ever added, and how many are there.
local function size_of(stream)
  if redis.call('EXISTS', stream) == 0 then return 0, 0 end
  local info, reply = {}, redis.call('XINFO', 'STREAM', stream)
  for index = 1, #reply, 2 do info[reply[index]] = reply[index + 1] end
  return info['entries-added'], info['length']
end
