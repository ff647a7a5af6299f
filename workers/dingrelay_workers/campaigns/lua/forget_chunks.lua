-- Delete the records of jobs that are settled elsewhere.
-- KEYS: the dispatcher's lease, recent, dead, records
-- ARGV: the lease's value, ids in the order of the records
-- Answers 1, or 0 if the lease is another's: then nothing is deleted.
local lease, recent, dead, value = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
if redis.call('GET', lease) ~= value then return 0 end
for i = 4, #KEYS do
  local id = ARGV[i - 2]
  take_out(id, redis.call('HGET', KEYS[i], 'queue'))
  redis.call('DEL', KEYS[i])
  redis.call('ZREM', recent, id)
  redis.call('ZREM', dead, id)
end
return 1
