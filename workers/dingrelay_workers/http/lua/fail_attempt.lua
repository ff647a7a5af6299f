-- An attempt of a request with an Idempotency-Key has failed: another one may begin. A refused one has made nothing.
-- Answers 0 if the key is another attempt's by now.
local owner, first = unpack(redis.call('HMGET', entry, 'attempt', 'first'))
if owner ~= attempt then return 0 end
if refused and first == attempt then
  redis.call('DEL', entry)  -- the key may name a better request
else
  redis.call('HSET', entry, 'until', 0)
end
return 1
