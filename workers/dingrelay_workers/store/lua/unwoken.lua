-- How jobs are claimed without their wake-ups, each under an owner of its own.
-- Answers {id of the next caller or '', now, {id, {field, value, ...}}...}.
local claimed_unwoken = {'', now}

local function claim_unwoken(id, owner, separator, lease)
  local known, fields = read(JOB .. id)
  local name = owner .. separator .. #claimed_unwoken
  claimed_unwoken[#claimed_unwoken + 1] = {id, run(JOB .. id, id, known, fields, name, lease, false)}
end
