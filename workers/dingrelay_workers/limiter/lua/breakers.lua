-- Circuit breakers.
--
-- A breaker is a hash, and absent while all is well:
--   sick, apis             sick answers in a row, and the APIs that gave them
--   opened, reason         since when it is open (us), and why
--   next, level            when the next probe may leave, how often probes have failed
--   left, probe, ahead     when the last probe leaves, until when its answer is waited for, and how far
--                          off its slot was when it was given
--   called                 when a waiting job was last woken for a probe
--   closed                 when it closed, of a host
-- There is one for each API of an app, one for each host, and one for an app that is held.

local BUSY = 50000           -- us after which to look again while a probe is under way
local PATIENT = 10           -- beats between probes at most, in the first minutes of an outage,
local SHARE = 0.08           -- then this share of its length, so that its end is found soon,
local LONG = 30              -- up to so many beats,
local HOUR = 3600            -- and beyond an hour (in beats)
local RARE = 300             -- so many

local function read_breaker(key, us, longest, probe_timeout)
  local field = redis.call('HMGET', key, 'sick', 'opened', 'next', 'probe', 'left', 'reason', 'closed',
    'level', 'called', 'ahead')
  local breaker = {
    key = key, sick = tonumber(field[1]) or 0, opened = tonumber(field[2]),
    next = tonumber(field[3]) or 0, probe = tonumber(field[4]) or 0, left = tonumber(field[5]) or 0,
    reason = field[6] or '', closed = tonumber(field[7]) or 0, level = tonumber(field[8]) or 0,
    called = tonumber(field[9]) or 0,
  }
  breaker.probed = breaker.probe > 0
  -- The server's clock may step back: what lies further ahead than it was ever set is over.
  if breaker.next > us + longest then breaker.next = us end
  if breaker.probe > us + probe_timeout + (tonumber(field[10]) or 0) then breaker.probe = 0 end
  if breaker.opened then breaker.opened = math.min(breaker.opened, us) end
  return breaker
end

-- The breakers that stand open before a call, the wait until one may probe (us; 0: now), and why.
local function gate(us, api_breaker, host, hold)
  local open, wait, reason, what = {}, 0, '', ''
  local function stop(breaker, name, due)
    open[#open + 1] = breaker
    wait = math.max(wait, due - us)
    if breaker.probe > us then wait = math.max(wait, math.min(BUSY, breaker.probe - us)) end
    if what == '' then what, reason = name, breaker.reason end
  end
  if hold.opened then stop(hold, 'hold', hold.next) end
  if host.opened then
    -- An API that has not failed itself tries at once: perhaps the host is well and others are not.
    local well = api_breaker.sick == 0 and not api_breaker.opened
    stop(host, 'host', well and us or host.next)
    if api_breaker.opened then open[#open + 1] = api_breaker end
  elseif api_breaker.opened then
    stop(api_breaker, 'api', host.closed > api_breaker.left and us or api_breaker.next)
  end
  return open, wait, what, reason
end

local function longest_gap(open_for, beat)
  if open_for > HOUR * beat then return RARE * beat end
  return math.max(PATIENT * beat, math.min(LONG * beat, open_for * SHARE))
end

-- The breakers that stand open before a call, the wait until one may probe (us; 0: now), 1 if a sane answer must
-- be reported, which one it is, and why. While all is well none is there.
local function before_call(api, host, app, us, longest, probe_timeout)
  if redis.call('EXISTS', api, host, app) == 0 then return {}, 0, 0, '', '' end
  local api_breaker, host_breaker = read_breaker(api, us, longest, probe_timeout), read_breaker(host, us, longest, probe_timeout)
  local hold = read_breaker(app, us, longest, probe_timeout)
  local open, wait, what, reason = gate(us, api_breaker, host_breaker, hold)
  local ill = api_breaker.sick > 0 or host_breaker.sick > 0 or hold.sick > 0 or #open > 0 and wait == 0
  return open, wait, ill and 1 or 0, what, reason
end

-- A probe of these breakers leaves at a moment, and its answer is waited for.
local function note_probe(open, us, leaves, probe_timeout)
  for _, breaker in ipairs(open) do
    redis.call('HSET', breaker.key, 'probe', leaves + probe_timeout, 'left', leaves, 'ahead', leaves - us)
  end
end
