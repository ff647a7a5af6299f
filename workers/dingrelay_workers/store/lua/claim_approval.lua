-- Give an approval instance to a job: one instance has one job, one job has one instance.
-- Returns '' if the instance is the job's. Otherwise since when the call of the job that has it
-- may have had its effect: the instance that this call made is unclaimed now.
local own = redis.call('GET', job_approval)
if own and own ~= instance then return since end
local held = redis.call('GET', approval_owner)
if held then
  -- A job that looks at it now may look again: the mark outlives that, too.
  redis.call('PEXPIRE', approval_owner, owner_ttl)
  local began, holder = string.match(held, '^(%d+) (.*)$')
  if holder ~= job then return began end
else
  redis.call('SET', approval_owner, since .. ' ' .. job, 'PX', owner_ttl)
end
redis.call('SET', job_approval, instance, 'PX', job_ttl)
return ''
