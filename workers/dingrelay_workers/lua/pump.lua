-- Let one worker carry campaigns on, while there is one that runs.
-- KEYS: the pump's lease, the signal of campaigns
-- ARGV: worker, lease, value of the signal at which nothing ran ('' for none), its ttl, its value for
--       that nothing runs (times in ms)
-- Answers {1 if this worker has the lease, else 0; the signal, '' if it is lost}.
local signal = redis.call('GET', KEYS[2])
if ARGV[3] ~= '' and signal == ARGV[3] then signal = ARGV[5] end
if signal then redis.call('SET', KEYS[2], signal, 'PX', ARGV[4]) end
local holder = redis.call('GET', KEYS[1])
if signal == ARGV[5] then
  if holder == ARGV[1] then redis.call('DEL', KEYS[1]) end
  return {0, signal}
end
if holder and holder ~= ARGV[1] then return {0, signal or ''} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, signal or ''}
