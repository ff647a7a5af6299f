-- Ends what a worker has to do with a message: it is done with, the next of its queue again, or refused.
-- KEYS: the worker's marks, the list to which a wait moved the message (or its queue, if none did), its queue, the
--       refused texts.
-- ARGV: what becomes of it ('done', 'back', 'refused'), its tag, its text, then for refused ones: how many are kept,
--       how many bytes of each, for how many ms.
-- The first command is a write: a Redis that is full lets only a script that has written go on writing.
local marks, list, queue, refused = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local becomes, tag, text = ARGV[1], ARGV[2], ARGV[3]
redis.call('HDEL', marks, tag)
if list ~= queue then redis.call('LPOP', list) end
if becomes == 'back' then
  redis.call('RPUSH', queue, text)
elseif becomes == 'refused' then
  local time = redis.call('TIME')
  redis.call('LPUSH', refused, time[1] .. ' ' .. queue .. '\n' .. string.sub(text, 1, tonumber(ARGV[5])))
  redis.call('LTRIM', refused, 0, tonumber(ARGV[4]) - 1)
  redis.call('PEXPIRE', refused, ARGV[6])
end
