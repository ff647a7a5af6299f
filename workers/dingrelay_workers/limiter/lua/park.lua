-- Estimate when the turn of a job comes that can't wait in its process, and read what its sender has had.
--
-- KEYS: one bucket per rule, then the turns of the lane, its jobs that were woken for theirs, the sender's
--       parked jobs, and recipients of parked jobs by lane and sender that share calls with this one
-- ARGV: 1 lane, 2 the time in microseconds, empty for the server's clock (tests bring their own), 3 sender
--       4 milliseconds a bucket lives unused
--       5 the job if it was woken for a call that it did not make, so that its sender has not had it, or ''
--       6 recipients that it adds to a shared call; 0 if it goes alone
--       then per rule: burst, first rate, top rate (tokens/s; 0: no limit), the job's cost
--
-- Answers the time until then (us), the reason of a pause, if there is one, and what the sender has had.
-- The time is a guess, since others may come: whose turn it is is decided when a slot comes
-- (`wake_parked.lua`).

local CARRIED = 100  -- recipients of one call, where no rule allows fewer

local lane, now, sender, ttl = ARGV[1], microseconds(ARGV[2]), ARGV[3], ARGV[4]
local woken, recipients = ARGV[5], tonumber(ARGV[6])
local rules = #KEYS - 4
local turns, in_turn, parked, shared = unpack(KEYS, rules + 1)
local end_of_lane = 'tail:' .. lane

read_bucket(KEYS[1], now)
local known = redis.call('HMGET', KEYS[1], end_of_lane, 'next:' .. lane)
local tail, due = tonumber(known[1]) or 0, math.max(now, tonumber(known[2]) or 0)
local reason, seconds, of_recipients, weight, carried = '', 0, 0, UNLIMITED, CARRIED

for i = 1, rules do
  local rule, cost = read_rule(KEYS[i], now, unpack(ARGV, 3 + 4 * i, 5 + 4 * i)), tonumber(ARGV[6 + 4 * i])
  if rule.paused > due then due, reason = rule.paused, rule.reason end
  if rule.rate > 0 then
    seconds, weight = math.max(seconds, cost / rule.rate), math.max(weight, cost / rule.first)
    if rule.recipients then of_recipients, carried = cost / rule.rate, math.min(carried, rule.burst) end
  end
end

-- Jobs of a sender that one call can carry cost their recipients, but no call.
local function shares_call()
  if recipients == 0 then return false end
  local taken = tonumber(redis.call('HGET', shared, lane .. ' ' .. sender) or 0)
  local fits = tail > now and taken > 0 and taken + recipients <= carried
  redis.call('HSET', shared, lane .. ' ' .. sender, (fits and taken or 0) + recipients)
  redis.call('PEXPIRE', shared, ttl)
  return fits
end

if woken == '' or tail <= now then
  tail = math.max(tail, due) + (shares_call() and of_recipients or seconds) * 1000000
  redis.call('HSET', KEYS[1], end_of_lane, tail)
  keep_bucket(KEYS[1], ttl + math.floor((tail - now) / 1000))
end

if woken ~= '' then
  redis.call('ZREM', in_turn, woken)
  if redis.call('ZSCORE', turns, sender) then redis.call('ZINCRBY', turns, -weight, sender) end
end
local round = math.max(1, redis.call('ZCARD', turns)) * seconds * 1000000
local turn = due + (redis.call('ZCARD', parked) + 1) * round
return {math.ceil(math.min(turn, tail) - now), reason, tostring(had(turns, sender, weight))}
