-- Give an approval instance to a job: one instance has one job, one job has one instance.
-- KEYS: the instance's job, the job's instance
-- ARGV: instance, job, since when the job's call may have had its effect (ms), ttl of the instance's
--       mark, ttl of the job's (ms)
-- Returns '' if the instance is the job's. Otherwise since when the call of the job that has it
-- may have had its effect: the instance that this call made is unclaimed now.
local instance, job = KEYS[1], KEYS[2]
local id, job_id, since, instance_ttl, job_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local own = redis.call('GET', job)
if own and own ~= id then return since end
local held = redis.call('GET', instance)
if held then
  -- A job that looks at it now may look again: the mark outlives that, too.
  redis.call('PEXPIRE', instance, instance_ttl)
  local began, holder = string.match(held, '^(%d+) (.*)$')
  if holder ~= job_id then return began end
else
  redis.call('SET', instance, since .. ' ' .. job_id, 'PX', instance_ttl)
end
redis.call('SET', job, id, 'PX', job_ttl)
return ''
