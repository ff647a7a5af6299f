-- Reserve one of the day's sends to everyone.
--
-- KEYS  jobs that send to everyone today (job -> 1)
-- ARGV  1 job, 2 sends a day, 3 milliseconds the key lives
--
-- Returns 1 if the job may send; a job that was let through before is let through again.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 1 end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
