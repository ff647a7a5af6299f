-- Forget a dead or unknown job for good. A late message of it finds its tombstone and makes nothing.
-- Or forget one that has ended in whatever way.
-- KEYS: record, dead, recent
-- ARGV: id, 1 in whatever way, when it ended if only that end is meant, else ''
-- Answers 1 if it was there, else 0.
local record, dead, recent, id, any, settled = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2] == '1', ARGV[3]
local state, ended_at, bare = unpack(redis.call('HMGET', record, 'state', 'settled', 'bare'), 1, 3)
if settled ~= '' and ended_at ~= settled then return 0 end
redis.call('ZREM', dead, id)
if any and (not state or state == 'running' or waits(state)) then return 0 end
if not any and state ~= 'dead' and state ~= 'unknown' then return 0 end
-- The reservations of a deleted job would count as sent.
redis.call('HDEL', record, 'intent')
give_back(record, id)
redis.call('DEL', record)
redis.call('ZREM', recent, id)
if bare or not any then bury(id, true, 0) end
return 1
