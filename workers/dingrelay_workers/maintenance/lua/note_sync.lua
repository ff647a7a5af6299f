-- Note the latest sync that the schedule has enqueued for an app.
-- KEYS: the leader's lease, the note
-- ARGV: the lease's value, job, when it was enqueued, ttl of the note (times in ms)
-- Answers 1, or 0 if the lease is another's: then nothing is noted.
local lease, note = KEYS[1], KEYS[2]
local holder, job, at, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('GET', lease) ~= holder then return 0 end
redis.call('HSET', note, 'job', job, 'at', at)
redis.call('PEXPIRE', note, ttl)
return 1
