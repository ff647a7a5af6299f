-- Let one worker carry campaigns on, or give that up.
-- KEYS: the pump's lease, the signal of campaigns
-- ARGV: the name under which this worker had the lease ('' for none), the name under which it would
--       take it ('' not to), lease (0 gives it up), ttl of the signal (times in ms)
-- Answers {the name under which this worker has the lease or '', the signal or '', now (ms)}.
local holder = redis.call('GET', KEYS[1])
local clock = redis.call('TIME')
local name = ''
if holder == ARGV[1] then
  if ARGV[3] == '0' then redis.call('DEL', KEYS[1]) else name = holder end
elseif not holder then
  name = ARGV[2]
end
if name ~= '' then
  redis.call('SET', KEYS[1], name, 'PX', ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return {name, redis.call('GET', KEYS[2]) or '', clock[1] * 1000 + math.floor(clock[2] / 1000)}
