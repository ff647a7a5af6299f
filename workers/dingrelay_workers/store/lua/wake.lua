-- Have a waiting job looked at now.
-- KEYS: record
-- ARGV: id
-- Answers 1 if it waited.
local record, id = KEYS[1], ARGV[1]
local known = redis.call('HMGET', record, 'state', 'queue')
if known[1] ~= 'snoozed' and known[1] ~= 'retrying' then return 0 end
wake_at(id, known[2], now)
return 1
