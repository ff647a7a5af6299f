-- Write other values into the record of a job that has ended, unless it has had another life since.
-- KEYS: record
-- ARGV: its state and when it ended, as they were read, then names and values; an empty value removes
-- Answers 1, or 0 if it is not as it was read. The time to live stays.
local record, state, settled = KEYS[1], ARGV[1], ARGV[2]
local known = redis.call('HMGET', record, 'state', 'settled')
if known[1] ~= state or known[2] ~= settled then return 0 end
for index = 3, #ARGV, 2 do
  local name, value = ARGV[index], ARGV[index + 1]
  if value == '' then redis.call('HDEL', record, name) else redis.call('HSET', record, name, value) end
end
return 1
