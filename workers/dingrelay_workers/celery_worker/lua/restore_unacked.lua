-- Puts back messages of our queues that kombu's own transport has marked, in 0.2.0 for instance, and no worker has
-- acknowledged for a while. Those of other queues are another Celery app's.
-- Returns how many marks the next look passes over; 0 after the last one.
local ours = {}
for _, queue in ipairs(queues) do ours[queue] = true end

local before = redis.call('TIME')[1] - seconds
local tags = redis.call('ZRANGE', index, '-inf', before, 'BYSCORE', 'LIMIT', skipped, most)
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
return #tags == most and skipped or 0
