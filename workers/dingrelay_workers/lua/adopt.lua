-- Give an approval instance to a job: one instance has one job, one job has one instance.
-- KEYS: adopted
-- ARGV: instance, job, since when the job's call may have had its effect (ms), ttl (ms)
-- Answers '' if the instance is the job's. Otherwise since when the call of the job that has it
-- may have had its effect: an instance which that call made is nobody's now.
local adopted, instance, job = KEYS[1], 'instance:' .. ARGV[1], 'job:' .. ARGV[2]
redis.call('PEXPIRE', adopted, ARGV[4])

local own = redis.call('HGET', adopted, job)
if own then return own == ARGV[1] and '' or ARGV[3] end
local since = redis.call('HGET', adopted, instance)
if since then return since end
redis.call('HSET', adopted, job, ARGV[1], instance, ARGV[3])
redis.call('PEXPIRE', adopted, ARGV[4])
return ''
