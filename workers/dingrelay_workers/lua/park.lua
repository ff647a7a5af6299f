-- running → snoozed | retrying | queued: the job waits on the schedule.
-- KEYS: record, schedule
-- ARGV: id, fence, state, delay, attempts spent, throttles met, error (JSON or ''),
--       answered (1: no call of this job is open any more), waiting since (ms or 0), margin,
--       ttl of a cancelled record, alone (1: it never shares a call again), ttl of those who wait
--       for a call that carries several jobs, then step and outcome of each finished step (times in ms)
-- Answers the state after, or '' if the job is no longer this worker's.
local record, id = KEYS[1], ARGV[1]
local held = redis.call('HMGET', record, 'state', 'fence', 'cancel', 'shares', 'created')
if held[1] ~= 'running' or held[2] ~= ARGV[2] then return '' end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

for index = 14, #ARGV, 2 do
  redis.call('HSET', record, 'step:' .. ARGV[index], ARGV[index + 1])
end
if ARGV[8] == '1' then redis.call('HDEL', record, 'calling') end
redis.call('HINCRBY', record, 'attempts', ARGV[5])
redis.call('HINCRBY', record, 'throttles', ARGV[6])
if ARGV[7] ~= '' then redis.call('HSET', record, 'error', ARGV[7]) end
redis.call('HDEL', record, 'owner', 'lease', 'crashes')
if ARGV[9] ~= '0' then
  redis.call('HSET', record, 'waiting', ARGV[9])
else
  redis.call('HDEL', record, 'waiting')
end

if ARGV[12] == '1' then redis.call('HDEL', record, 'shares', 'seats') end

if held[3] then
  redis.call('HSET', record, 'state', 'cancelled', 'settled', now)
  redis.call('PEXPIRE', record, ARGV[11])
  redis.call('ZREM', KEYS[2], id)
  return 'cancelled'
end
local due = now + math.floor(tonumber(ARGV[4]))
redis.call('HSET', record, 'state', ARGV[3], 'due', due, 'woken', 0)
redis.call('PEXPIREAT', record, due + tonumber(ARGV[10]))
redis.call('ZADD', KEYS[2], due, id)
local waits = ARGV[9] ~= '0' or ARGV[3] == 'queued'
if held[4] and waits and ARGV[12] ~= '1' then
  redis.call('ZADD', held[4], held[5], id)
  redis.call('PEXPIRE', held[4], ARGV[13])
end
return ARGV[3]
