-- Forget a dead or unknown job for good. A late message of it finds its tombstone and makes nothing.
-- Or forget one that has ended in whatever way, or at one moment.
-- Answers 1 if it was there, else 0; so it does where a newer release made the job, which has to forget it.
local state, ended_at, bare = unpack(redis.call('HMGET', record, 'state', 'settled', 'bare'), 1, 3)
if not ended and newer(record) then return 0 end
if settled and ended_at ~= settled then return 0 end
redis.call('ZREM', dead, job)
if ended and (not state or state == 'running' or waits(state)) then return 0 end
if not ended and state ~= 'dead' and state ~= 'unknown' then return 0 end
-- The reservations of a deleted job would count as sent.
redis.call('HDEL', record, 'intent')
give_back(record, job)
redis.call('DEL', record)
redis.call('ZREM', recent, job)
if bare or not ended then bury(job, true, 0) end
return 1
