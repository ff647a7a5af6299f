-- An attempt of a request with an Idempotency-Key is under way. Answers 0 if the key is another attempt's by now.
if redis.call('HGET', entry, 'attempt') ~= attempt then return 0 end
redis.call('HSET', entry, 'until', milliseconds() + lease)
return 1
