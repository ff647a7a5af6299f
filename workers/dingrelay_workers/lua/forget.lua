-- Delete the records of jobs that are settled elsewhere.
-- KEYS: the pump's lease, schedule, recent, dead, records
-- ARGV: the lease's value, ids in the order of the records
-- Answers 1, or 0 if the lease is another's: then nothing is deleted.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 5, #KEYS do
  redis.call('DEL', KEYS[i])
  for set = 2, 4 do redis.call('ZREM', KEYS[set], ARGV[i - 3]) end
end
return 1
