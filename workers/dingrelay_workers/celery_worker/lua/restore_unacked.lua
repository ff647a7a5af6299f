-- Puts back messages of our queues that kombu's own transport has marked, in 0.2.0 for instance, and no worker has
-- acknowledged for a while. Those of other queues are another Celery app's.
-- KEYS: kombu's marked messages, and the moments at which they were taken.
-- ARGV: seconds for which they are left, how many marks to pass over, how many to look at, our queues.
-- Returns how many marks the next look passes over; 0 after the last one.
local unacked, index = KEYS[1], KEYS[2]
local skipped, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local ours = {}
for queue = 4, #ARGV do ours[ARGV[queue]] = true end

local before = redis.call('TIME')[1] - tonumber(ARGV[1])
local tags = redis.call('ZRANGE', index, '-inf', before, 'BYSCORE', 'LIMIT', skipped, count)
for _, tag in ipairs(tags) do
  -- [message, "exchange", "routing key"]
  local mark = redis.call('HGET', unacked, tag)
  local message, queue = string.match(mark or '', '^%[(.*), "[^"\\]*", "([^"\\]*)"%]$')
  if queue and ours[queue] then
    redis.call('ZREM', index, tag)
    redis.call('HDEL', unacked, tag)
    redis.call('RPUSH', queue, message)
  else
    skipped = skipped + 1
  end
end
return #tags == count and skipped or 0
