-- Whether a file may wait in Redis beside those that do.
-- KEYS: uploads (digest → size and until when it is stored at the latest)
-- ARGV: digest, its size, bytes that may wait, how long storing it takes at most (ms), ttl of uploads (ms)
-- Answers 1, or 0 if there is no room.
local uploads, digest = KEYS[1], ARGV[1]
local size, room, storing, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local waiting = redis.call('HGETALL', uploads)
for at = 1, #waiting, 2 do
  local other = waiting[at]
  local its_size, stored_until = waiting[at + 1]:match('^(%d+) (%d+)$')
  if other ~= digest and tonumber(stored_until) < now and redis.call('EXISTS', UPLOAD .. other) == 0 then
    redis.call('HDEL', uploads, other)
  elseif other ~= digest then
    room = room - its_size
  end
end
if size > room then return 0 end
redis.call('HSET', uploads, digest, size .. ' ' .. string.format('%.0f', now + storing))
redis.call('PEXPIRE', uploads, ttl)
return 1
