-- Take tokens from a bucket, whether they are there or not: what has left counts.
--
-- KEYS: the bucket
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own),
--       2 milliseconds a bucket lives unused, 3 burst, 4 rate (tokens/s), 5 tokens

local bucket, ttl = KEYS[1], ARGV[2]
local now = microseconds(ARGV[1])
local burst, rate, tokens = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local field = redis.call('HMGET', bucket, 'balance', 'at')
if follow_clock(bucket, field[2], now) then field = redis.call('HMGET', bucket, 'balance', 'at') end
local elapsed = math.max(0, now - (tonumber(field[2]) or now))
local balance = math.min(burst, (tonumber(field[1]) or burst) + elapsed * rate / 1000000)
redis.call('HSET', bucket, 'balance', balance - tokens, 'at', now)
-- The call that took a slot of it has renewed that of an older one.
if not field[2] then redis.call('PEXPIRE', bucket, ttl, 'NX') end
