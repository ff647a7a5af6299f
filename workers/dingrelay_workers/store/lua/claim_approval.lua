-- Give an approval instance to a job.
-- Returns '' if it is the job's, otherwise as `claim_instance`.
local taken_since = claim_instance(approval_owner, job_approval, instance, job, since, owner_ttl, job_ttl)
if taken_since then return taken_since end
if settles_in then redis.call('SET', approval_sought, '', 'PX', settles_in) end
return ''
