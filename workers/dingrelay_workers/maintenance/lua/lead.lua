-- Let one worker do a work of the fleet, or give that up.
-- Answers {the name under which this worker has the lease or '', the signal or '', now (ms)}.
local present = redis.call('GET', lease)
local now = milliseconds()
local name = ''
-- A lease that ends later than it could is from before the server's clock stepped back.
if present and present ~= holder and redis.call('PTTL', lease) > lasts then present = nil end
if present == holder then
  if lasts == 0 then redis.call('DEL', lease) else name = present end
elseif not present then
  name = fresh
end
if name ~= '' then
  redis.call('SET', lease, name, 'PX', lasts)
  redis.call('PEXPIRE', signal, signal_ttl)
end
return {name, redis.call('GET', signal) or '', now}
