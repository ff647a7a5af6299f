-- Delete the records of deliveries that have ended.
-- KEYS: the leader's lease, recent, records
-- ARGV: the lease's value, the state that stays, ids in the order of the records
-- Answers 1, or 0 if the lease is another's: then nothing is deleted.
local lease, recent, value, stays = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('GET', lease) ~= value then return 0 end
for i = 3, #KEYS do
  local state = redis.call('HGET', KEYS[i], 'state')
  if state and state ~= stays and state ~= 'running' and not waits(state) then
    redis.call('DEL', KEYS[i])
    redis.call('ZREM', recent, ARGV[i])
  end
end
return 1
