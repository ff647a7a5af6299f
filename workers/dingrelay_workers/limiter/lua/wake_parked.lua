-- Wake parked jobs of a lane for the slots that come, each of the sender whose turn it is then.
-- Answers how many calls jobs were woken for, and 1 if there is more to look at just now.
--
-- A job is woken a little before its slot. None is while many that were have not had their call: others go
-- first, or their wake-ups stand behind others, and a sender that comes now would wait for all of them.
--
-- Jobs of the same sender and content that the call can take along are woken later: few of them wait for
-- that.

local SURPLUS = 1.05     -- they come back a little faster than they leave: no slot goes by unused
local LEAD = 1000000     -- us before its slot at which a job is woken: that takes a moment
local FOLLOW = 3000000   -- us after which a job is woken that should have been taken along
local CARRIED = 100      -- recipients of one call, where no rule allows fewer
local AHEAD, FEW = 1.5, 3  -- s of the rate, and jobs more, that may wait for their calls
local LATE = 1000        -- ms after which to look whether one still does,
local STUCK = 5000       -- after which one that runs hardly does: its worker is gone, or others go first,
local LOST = 60000       -- and after which none does
local MOST = 100         -- calls to wake jobs for at a time,
local LOOKED_AT = 500    -- and parked jobs to look at: some milliseconds

local us = microseconds(time_us)  -- `now`, in ms, is the server's, whatever time a test brings
local rules, slot, calls, carried = {}, us, buckets[1], CARRIED

for i, bucket in ipairs(buckets) do
  local rule = read_rule(bucket, us, limits[i])
  slot = math.max(slot, rule.paused)
  if rule.rate > 0 then
    rules[#rules + 1] = rule
    if rule.recipients then carried = math.min(carried, rule.burst) end
  end
end
slot = math.max(slot, tonumber(redis.call('HGET', calls, 'next:' .. lane) or 0))

-- The seconds that a call takes of its limits: at their present rates, and at those that stay the same.
local function seconds_of(recipients)
  local present, weight = UNLIMITED, UNLIMITED
  for _, rule in ipairs(rules) do
    local cost = rule.recipients and recipients or 1
    present, weight = math.max(present, cost / rule.rate), math.max(weight, cost / rule.first)
  end
  return present, weight
end

local function wake(id, queue, due)
  redis.call('HDEL', JOB .. id, 'parked')
  wake_at(id, queue, due)
end

local function look(id, parked)
  local fields = redis.call('HMGET', JOB .. id, 'state', 'parked', 'queue', 'batch_key', 'recipients')
  if fields[1] ~= 'snoozed' or fields[2] ~= parked then return nil end
  return fields[3], fields[4], tonumber(fields[5] or 1)
end

redis.call('ZREMRANGEBYSCORE', in_turn, '-inf', now - LOST)
redis.call('ZREMRANGEBYSCORE', in_turn, now + LOST, '+inf')  -- the clock has stepped back
local late = redis.call('ZRANGEBYSCORE', in_turn, '-inf', now - LATE, 'WITHSCORES', 'LIMIT', 0, MOST)
for index = 1, #late, 2 do
  local id, since = late[index], tonumber(late[index + 1])
  local turn_fields = redis.call('HMGET', JOB .. id, 'state', 'turn')
  local comes = turn_fields[1] == 'snoozed' or turn_fields[1] == 'running' and since > now - STUCK
  if not comes or turn_fields[2] ~= in_turn then redis.call('ZREM', in_turn, id) end
end
local most = math.min(MOST, FEW + AHEAD / seconds_of(1) - redis.call('ZCARD', in_turn))
local woken, looked = 0, 0

-- The recipients of a call: those of a job, and of others like it of the same sender.
local function take_along(batch_key, parked, recipients)
  if redis.call('ZCARD', batch_key) == 1 then return recipients end
  for _, id in ipairs(redis.call('ZRANGE', parked, 0, CARRIED - 1)) do
    local queue, content, more = look(id, parked)
    looked = looked + 1
    if queue and content == batch_key and recipients + more <= carried then
      redis.call('ZREM', parked, id)
      wake(id, queue, now + FOLLOW / 1000)
      recipients = recipients + more
    end
  end
  return recipients
end

while slot < us + LEAD and woken < most and looked < LOOKED_AT do
  local sender = redis.call('ZRANGE', turns, 0, 0)[1]
  if not sender then
    redis.call('ZREM', lanes, name)
    redis.call('HDEL', calls, 'tail:' .. lane)
    break
  end
  local parked = prefix .. sender
  local id = redis.call('ZPOPMIN', parked)[1]
  looked = looked + 1
  if not id then
    redis.call('ZREM', turns, sender)
  else
    local queue, batch_key, recipients = look(id, parked)
    if queue and not hold(id) then
      wake(id, queue, now - MOST + woken)  -- they stay in their order
      redis.call('HSET', JOB .. id, 'turn', in_turn)
      redis.call('ZADD', in_turn, now + woken / MOST, id)
      if carries and batch_key then recipients = take_along(batch_key, parked, recipients) end
      local seconds, weight = seconds_of(recipients)
      charge(turns, sender, weight)
      slot = slot + seconds / SURPLUS * 1000000
      woken = woken + 1
    end
  end
end

if woken > 0 then
  redis.call('PEXPIRE', in_turn, LOST)
  redis.call('HSET', calls, 'next:' .. lane, slot)
  keep_bucket(calls, ttl + math.max(0, math.floor((slot - us) / 1000)))
end
return {woken, (looked >= LOOKED_AT or woken >= MOST) and 1 or 0}
