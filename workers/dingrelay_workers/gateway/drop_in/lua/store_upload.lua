-- Let a file wait in Redis, unless those that do take up the room.
-- Answers 1, or 0 if there is no room.
local waiting = redis.call('HGETALL', uploads)
for at = 1, #waiting, 2 do
  local other = waiting[at]
  if other ~= digest and redis.call('EXISTS', prefix .. other) == 0 then
    redis.call('HDEL', uploads, other)
  elseif other ~= digest then
    room = room - waiting[at + 1]
  end
end
if size > room then return 0 end
redis.call('SET', file, content, 'PX', ttl)
redis.call('HSET', uploads, digest, size)
redis.call('PEXPIRE', uploads, ttl)
return 1
