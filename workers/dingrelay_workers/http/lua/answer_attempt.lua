-- Keep the answer of a request with an Idempotency-Key. Answers 0 if the key is another attempt's by now.
if redis.call('HGET', entry, 'attempt') ~= attempt then return 0 end
redis.call('HSET', entry, 'status', status, 'headers', headers, 'body', body, 'people', people)
return 1
