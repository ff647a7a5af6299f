-- Report a call that failed, and why: breakers may open, or wait longer for a probe.
-- Answers whether the call was part of an outage, the time to the next probe (us), and which have
-- opened: api, host, hold.

local now = microseconds(time_us)
local longest = math.max(RARE * beat, hold_gap)
local api_breaker = read_breaker(of_api, now, longest, probe_timeout)
local host = read_breaker(of_host, now, longest, probe_timeout)
local hold = read_breaker(of_app, now, longest, probe_timeout)
local news = {}

local function open(breaker, name, gap)
  breaker.opened, breaker.next = now, now + gap
  redis.call('HSET', breaker.key, 'opened', now, 'next', breaker.next, 'level', 0, 'reason', reason)
  redis.call('HDEL', breaker.key, 'apis')
  redis.call('PEXPIRE', breaker.key, open_ttl)
  redis.call('ZADD', all_open, now, breaker.key)
  redis.call('PEXPIRE', all_open, open_ttl)
  news[#news + 1] = name
end

local function postpone_probe(breaker, gap)
  if not trial or not breaker.probed then return end
  -- From when the probe left: a timeout is part of the gap.
  breaker.next = math.max(now, math.min(breaker.left, now) + gap)
  redis.call('HSET', breaker.key, 'next', breaker.next, 'level', breaker.level + 1, 'reason', reason)
  redis.call('HDEL', breaker.key, 'probe')
  redis.call('PEXPIRE', breaker.key, open_ttl)
end

-- How many APIs there are in a field by now, of up to `most` that are counted apart.
local function distinct(key, field, most)
  local apis = redis.call('HGET', key, field) or ' '
  local _, count = string.gsub(apis, '[^ ]+', '')
  if count >= most or string.find(apis, ' ' .. api .. ' ', 1, true) then return count end
  redis.call('HSET', key, field, apis .. api .. ' ')
  return count + 1
end

local function note(breaker)
  local sick = redis.call('HINCRBY', breaker.key, 'sick', 1)
  redis.call('PEXPIRE', breaker.key, remembered)
  return sick
end

local function count(breaker, name, needed, apis)
  if breaker.opened then
    local gap = math.min(beat * 2 ^ math.min(breaker.level + 1, 20), longest_gap(now - breaker.opened, beat))
    return postpone_probe(breaker, gap)
  end
  local sick, met = note(breaker), distinct(breaker.key, 'apis', apis)
  if symptom == 'cut' then met = apis end
  if sick >= needed and met >= apis then open(breaker, name, beat) end
end

-- One API's refusal may be about that API, or one call of it; the same one by another API, without a
-- sane answer in between, is about the app.
local function refuse()
  if host.opened and trial then redis.call('HDEL', host.key, 'probe') end
  if hold.opened then return postpone_probe(hold, hold_gap) end
  note(hold)
  if distinct(hold.key, 'refused ' .. code, hold_apis) >= hold_apis then
    open(hold, 'hold', hold_gap)
  elseif api_breaker.opened then
    postpone_probe(api_breaker, hold_gap)
  elseif api_needs == 1 then
    open(api_breaker, 'api', hold_gap)
  end
end

if symptom == 'held' then
  refuse()
elseif symptom == 'unused' then
  for _, breaker in ipairs({api_breaker, host, hold}) do
    if breaker.opened and breaker.probed then redis.call('HDEL', breaker.key, 'probe') end
  end
else
  count(api_breaker, 'api', api_needs, 1)
  count(host, 'host', host_needs, host_apis)
  if hold.opened then postpone_probe(hold, hold_gap) end
end

local part, wait = 0, 0
for _, breaker in ipairs({api_breaker, host, hold}) do
  if breaker.opened then part, wait = 1, math.max(wait, breaker.next - now) end
end
return {part, math.ceil(wait), unpack(news)}
