-- How a job begins to run, for the scripts that this is put before.

-- The job is this owner's until the lease ends. A new owner has a new fence; one that claims `again`,
-- since its first answer was lost, keeps its own. Answers the record.
local function run(record, id, queue, owner, lease, again)
  if not again then redis.call('HINCRBY', record, 'fence', 1) end
  redis.call('HSETNX', record, 'started', now)
  redis.call('HSET', record, 'state', 'running', 'owner', owner, 'lease', now + lease, 'woken', now)
  redis.call('PEXPIREAT', record, now + MARGIN)
  take_out(id, queue)
  place_running(id, now + lease)
  return redis.call('HGETALL', record)
end

