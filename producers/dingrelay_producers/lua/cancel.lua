-- Cancel a job that does not run; mark one that does.
-- KEYS: record, schedule
-- ARGV: id, ttl of a settled record (ms)
-- Answers the state after, or nil if there is no such job.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return nil end
if state == 'running' then
  redis.call('HSET', KEYS[1], 'cancel', 1)
  return state
end
if state ~= 'queued' and state ~= 'snoozed' and state ~= 'retrying' then return state end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'settled', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
local shares = redis.call('HGET', KEYS[1], 'shares')
if shares then redis.call('ZREM', shares, ARGV[1]) end
give_back(KEYS[1], ARGV[1])
return 'cancelled'
