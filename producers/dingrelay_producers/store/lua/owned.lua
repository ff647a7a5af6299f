-- The check of owner and fence that every write of a run makes. It is put before those that name it.
--
-- The state of a job that still is this owner's, and the fields that are named after the fence; nil of
-- one that is another's or of none. Neither would do alone: a failover that loses a claim gives its
-- fence out again, and an owner that claims once more has a new fence.
local function owned(record, owner, fence, ...)
  local known = redis.call('HMGET', record, 'owner', 'fence', 'state', ...)
  if known[1] == owner and known[2] == fence then return unpack(known, 3) end
end

