-- Give a job that can't wait here its place behind all jobs parked before it.
--
-- KEYS  one bucket per rule, then the index of buckets
-- ARGV  1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 the queue of parked jobs: tail:LANE for a new job, again:LANE for one that came back
--       3 milliseconds a bucket lives unused
--       4 numbers per rule: burst, first rate, top rate (tokens/s; 0: no limit), the job's cost
--
-- Returns the time to the job's place (us) and the reason of a pause, if there is one.

local SURPLUS = 1.05  -- parked jobs come back a little faster than they leave: none leaves late

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local queue, ttl = ARGV[2], ARGV[3]
local due, reason = now, ''

for i = 1, #KEYS - 1 do
  local cursor = 4 * i
  local burst, first, top = tonumber(ARGV[cursor]), tonumber(ARGV[cursor + 1]), tonumber(ARGV[cursor + 2])
  local cost = tonumber(ARGV[cursor + 3])
  local field = redis.call('HMGET', KEYS[i], 'balance', 'at', 'rate', 'paused', 'reason', queue)
  local paused = tonumber(field[4]) or 0
  local free = now
  if paused > now then free, reason = paused, field[5] end
  if top > 0 and cost > 0 then
    local rate = first
    if top > first then rate = math.max(top / 4, math.min(top, tonumber(field[3]) or first)) end
    local elapsed = math.max(0, now - (tonumber(field[2]) or now))
    local balance = math.min(burst, (tonumber(field[1]) or burst) + elapsed * rate / 1000000)
    free = math.max(free, now + (math.min(cost, burst) - balance) / rate * 1000000)
    free = math.max(free, tonumber(field[6]) or 0) + cost / (rate * SURPLUS) * 1000000
    redis.call('HSET', KEYS[i], queue, free)
    redis.call('PEXPIRE', KEYS[i], ttl, 'NX')
    redis.call('PEXPIRE', KEYS[i], ttl + math.floor((free - now) / 1000), 'GT')
  end
  due = math.max(due, free)
end

return {math.ceil(due - now), reason}
