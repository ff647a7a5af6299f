-- The request of this name is over: it is given back, is answered, or its name lives on for its job.
-- Answers 1, or 0 if the entry is another name's by now.
local held = redis.call('GET', entry)
local marked = held and held:sub(1, 1) == '!'
if not held or (marked and held:sub(2) or held) ~= name then return 0 end
if ttl == 0 then
  redis.call('DEL', entry)
elseif not answered then
  redis.call('PEXPIRE', entry, ttl)
elseif not marked then
  -- Its time begins with the first answer: else one that is asked for again and again would never be made again.
  redis.call('SET', entry, '!' .. name, 'PX', ttl)
end
return 1
