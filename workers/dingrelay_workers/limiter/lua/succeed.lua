-- A probe was answered well: its buckets open again, and the next pause is shorter.
--
-- KEYS: one bucket per rule of the probe
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own)

local now = microseconds(ARGV[1])

for _, bucket in ipairs(KEYS) do
  follow_clock(bucket, redis.call('HGET', bucket, 'at'), now)
  local field = redis.call('HMGET', bucket, 'half_open', 'paused', 'level')
  -- A bucket that was paused again while the probe was under way stays so.
  if field[1] == '1' and (tonumber(field[2]) or 0) <= now then
    redis.call('HDEL', bucket, 'half_open', 'probe')
    redis.call('HSET', bucket, 'level', math.max(0, (tonumber(field[3]) or 0) - 1))
  end
end
