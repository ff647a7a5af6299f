-- Let one worker do a work of the fleet, or give that up.
-- KEYS: the lease, the signal
-- ARGV: the name under which this worker had the lease ('' for none), the name under which it would
--       take it ('' not to), lease (0 gives it up), ttl of the signal (times in ms)
-- Answers {the name under which this worker has the lease or '', the signal or '', now (ms)}.
local lease, signal = KEYS[1], KEYS[2]
local worker, taking, lasts, signal_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = redis.call('GET', lease)
local clock = redis.call('TIME')
local name = ''
-- A lease that ends later than it could is from before the server's clock stepped back.
if holder and holder ~= worker and redis.call('PTTL', lease) > tonumber(lasts) then holder = nil end
if holder == worker then
  if lasts == '0' then redis.call('DEL', lease) else name = holder end
elseif not holder then
  name = taking
end
if name ~= '' then
  redis.call('SET', lease, name, 'PX', lasts)
  redis.call('PEXPIRE', signal, signal_ttl)
end
return {name, redis.call('GET', signal) or '', clock[1] * 1000 + math.floor(clock[2] / 1000)}
