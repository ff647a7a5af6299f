-- Report a call that failed, and why: breakers may open, or wait longer for a probe.
--
-- KEYS: breaker of the API, breaker of the host, hold of the app, open breakers
-- ARGV: 1 the time in microseconds, empty for the server's clock (tests bring their own)
--       2 beat (us): until the first probe of an outage, 3 us between two tries of a held app
--       4 us for which the answer of a probe is waited for
--       5 what happened: way, cut (no connection), answer, held, or unused (the call did not leave)
--       6 API, 7 1 if the call was a probe
--       8 sick answers in a row that open the breaker of the API, 9 the same for the host
--       10 APIs of the host that must have given them
--       11 code of the answer, 12 APIs that must have refused the app with it to hold it
--       13 reason, 14 ms for which sick answers are remembered, 15 ms an open breaker lives
--
-- Answers whether the call was part of an outage, the time to the next probe (us), and which have
-- opened: api, host, hold.

local of_api, of_host, of_app, all_open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = microseconds(ARGV[1])
local beat, hold_gap, probe_timeout = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local what, api, trial = ARGV[5], ARGV[6], ARGV[7] == '1'
local api_needs, host_needs, host_apis = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local code, hold_apis = ARGV[11], tonumber(ARGV[12])
local reason, remembered, kept = ARGV[13], ARGV[14], ARGV[15]
local longest = math.max(RARE * beat, hold_gap)
local own = read_breaker(of_api, now, longest, probe_timeout)
local host = read_breaker(of_host, now, longest, probe_timeout)
local hold = read_breaker(of_app, now, longest, probe_timeout)
local news = {}

local function open(breaker, name, gap)
  breaker.opened, breaker.next = now, now + gap
  redis.call('HSET', breaker.key, 'opened', now, 'next', breaker.next, 'level', 0, 'reason', reason)
  redis.call('HDEL', breaker.key, 'apis')
  redis.call('PEXPIRE', breaker.key, kept)
  redis.call('ZADD', all_open, now, breaker.key)
  redis.call('PEXPIRE', all_open, kept)
  news[#news + 1] = name
end

local function again(breaker, gap)
  if not trial or not breaker.probed then return end
  -- From when the probe left: a timeout is part of the gap.
  breaker.next = math.max(now, math.min(breaker.left, now) + gap)
  redis.call('HSET', breaker.key, 'next', breaker.next, 'level', breaker.level + 1, 'reason', reason)
  redis.call('HDEL', breaker.key, 'probe')
  redis.call('PEXPIRE', breaker.key, kept)
end

-- How many APIs there are in a field by now, of up to `most` that are counted apart.
local function distinct(key, field, most)
  local known = redis.call('HGET', key, field) or ' '
  local _, count = string.gsub(known, '[^ ]+', '')
  if count >= most or string.find(known, ' ' .. api .. ' ', 1, true) then return count end
  redis.call('HSET', key, field, known .. api .. ' ')
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
    return again(breaker, gap)
  end
  local sick, met = note(breaker), distinct(breaker.key, 'apis', apis)
  if what == 'cut' then met = apis end
  if sick >= needed and met >= apis then open(breaker, name, beat) end
end

-- One API's refusal may be about that API, or one call of it; the same one by another API, without a
-- sane answer in between, is about the app.
local function refuse()
  if host.opened and trial then redis.call('HDEL', host.key, 'probe') end
  if hold.opened then return again(hold, hold_gap) end
  note(hold)
  if distinct(hold.key, 'refused ' .. code, hold_apis) >= hold_apis then
    open(hold, 'hold', hold_gap)
  elseif own.opened then
    again(own, hold_gap)
  elseif api_needs == 1 then
    open(own, 'api', hold_gap)
  end
end

if what == 'held' then
  refuse()
elseif what == 'unused' then
  for _, breaker in ipairs({own, host, hold}) do
    if breaker.opened and breaker.probed then redis.call('HDEL', breaker.key, 'probe') end
  end
else
  count(own, 'api', api_needs, 1)
  count(host, 'host', host_needs, host_apis)
  if hold.opened then again(hold, hold_gap) end
end

local part, wait = 0, 0
for _, breaker in ipairs({own, host, hold}) do
  if breaker.opened then part, wait = 1, math.max(wait, breaker.next - now) end
end
return {part, math.ceil(wait), unpack(news)}
