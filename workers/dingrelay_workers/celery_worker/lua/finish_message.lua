-- Ends what a worker has to do with a message: it is done with, the next of its queue again, or refused.
-- The first command is a write: a Redis that is full lets only a script that has written go on writing.
redis.call('HDEL', marks, tag)
if list then redis.call('LPOP', list) end
if becomes == 'back' then
  redis.call('RPUSH', queue, text)
elseif becomes == 'refused' then
  local time = redis.call('TIME')
  redis.call('LPUSH', refused, time[1] .. ' ' .. queue .. '\n' .. string.sub(text, 1, bytes))
  redis.call('LTRIM', refused, 0, most - 1)
  redis.call('PEXPIRE', refused, ttl)
end
