-- Claim an approval instance for a job: one instance has one job, one job has one instance.
-- Answers nothing if the instance is the job's. Otherwise since when the call of the job that has it may have had its
-- effect: the instance that this call made is unclaimed now.
local function claim_instance(approval_owner, job_approval, instance, job, since, owner_ttl, job_ttl)
  local claimed_instance = redis.call('GET', job_approval)
  if claimed_instance and claimed_instance ~= instance then return since end
  local owner_text = redis.call('GET', approval_owner)
  if owner_text then
    -- A job that looks at it now may look again: the mark outlives that, too.
    redis.call('PEXPIRE', approval_owner, owner_ttl)
    local began, holder = string.match(owner_text, '^(%d+) (.*)$')
    if holder ~= job then return began end
  else
    redis.call('SET', approval_owner, since .. ' ' .. job, 'PX', owner_ttl)
  end
  redis.call('SET', job_approval, instance, 'PX', job_ttl)
end
