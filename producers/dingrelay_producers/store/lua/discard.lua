-- Forget a dead or unknown job for good. A late message of it finds its tombstone and makes nothing.
-- KEYS: record, dead, recent
-- ARGV: id
-- Answers 1 if it was there, else 0.
local record, dead, recent, id = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local state = redis.call('HGET', record, 'state')
redis.call('ZREM', dead, id)
if state ~= 'dead' and state ~= 'unknown' then return 0 end
-- Of a job that is not there any more, what it reserved would count as sent.
redis.call('HDEL', record, 'intent')
give_back(record, id)
redis.call('DEL', record)
redis.call('ZREM', recent, id)
bury(id, true, 0)
return 1
