-- Delete the records of jobs that are settled elsewhere.
-- KEYS: the dispatcher's lease, recent, dead, when this was last done (ms), records
-- ARGV: the lease's value, for how long it is known when this was last done (ms), ids in the order of the records
-- Answers 1, or 0 if the lease is another's: then nothing is deleted.
local lease, recent, dead, settled, value = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
if redis.call('GET', lease) ~= value then return 0 end
for i = 5, #KEYS do
  local id = ARGV[i - 2]
  take_out(id, redis.call('HGET', KEYS[i], 'queue'))
  let_go(KEYS[i], id)
  redis.call('DEL', KEYS[i])
  redis.call('ZREM', recent, id)
  redis.call('ZREM', dead, id)
end
redis.call('SET', settled, now, 'PX', ARGV[2])
return 1
