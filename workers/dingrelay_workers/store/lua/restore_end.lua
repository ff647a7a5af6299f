-- End a job that is open in a Redis restored from a backup: the history has its end, which came after
-- the backup. No notice is sent again.
-- KEYS: record, dead
-- ARGV: id, state, when it ended (ms), ttl of a settled record, of a dead or unknown one (ms)
-- Answers 1 if it was open.
local record, dead = KEYS[1], KEYS[2]
local id, state, settled, ttl, dead_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = redis.call('HMGET', record, 'state', 'queue', 'batch_key', 'bare')
if not (waits(known[1]) or known[1] == 'running') then return 0 end

redis.call('HSET', record, 'state', state, 'settled', settled)
redis.call('HDEL', record, 'owner', 'lease', 'intent', 'cancel')
take_out(id, known[2])
if known[3] then redis.call('ZREM', known[3], id) end
keep_ended(record, id, state, settled, known[4], dead, ttl, dead_ttl)
return 1
