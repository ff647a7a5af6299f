-- Puts messages back: what a worker has taken is the next one of its queue again, the oldest first.

-- The queue of a list to which a wait moves messages; nil for the marks of a worker.
local function queue_of(place)
  return string.match(place, '^dingrelay:taken:[^:]*:(.*)$')
end

local function put_back_list(list)
  while redis.call('LMOVE', list, queue_of(list), 'LEFT', 'RIGHT') do end
end

-- A tag is a number that grows, a colon, and the queue.
local function put_back_marks(marks, held)
  local tags = {}
  for _, tag in ipairs(redis.call('HKEYS', marks)) do
    if not held[tag] then tags[#tags + 1] = tag end
  end
  table.sort(tags, function(one, other)
    return tonumber(string.match(one, '^%d+')) > tonumber(string.match(other, '^%d+'))
  end)
  for _, tag in ipairs(tags) do
    local message = redis.call('HGET', marks, tag)
    redis.call('HDEL', marks, tag)
    redis.call('RPUSH', string.match(tag, ':(.*)$'), message)
  end
end

local function put_back(place)
  if queue_of(place) then put_back_list(place) else put_back_marks(place, {}) end
end
