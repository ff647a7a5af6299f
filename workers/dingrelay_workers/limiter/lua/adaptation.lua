-- How the rate of an app's calls follows what DingTalk's answers show. What a
-- throttling answer shows is in `penalize.lua`.

-- A rate climbs where calls wait for it, from the published limit towards what DingTalk in fact takes.
local NEAR_TOP = 0.9875        -- share of the limit to which a rate climbs: at the limit itself, calls
                               -- that cross on their way put one too many into every few seconds
local CLIMB = 0.01             -- share of the limit by which a climb quickens every second: the first
                               -- seconds show whether the limit is still near, the next ones make up
local QUICKEST = 15            -- s after which a climb gets no quicker

local function climb(bucket, us)
  if bucket.ceiling and us >= bucket.retry then
    bucket.ceiling, bucket.climbs = nil, us
    redis.call('HDEL', bucket.key, 'ceiling')
  end
  local goal = bucket.ceiling or math.max(bucket.first, bucket.top * NEAR_TOP)
  if bucket.rate < goal then
    local climbed = math.min(QUICKEST, math.max(0, us - bucket.climbs) / 1000000)
    local seconds = math.min(1, (us - bucket.grown) / 1000000)
    local rate = math.min(goal, bucket.rate + bucket.top * CLIMB * climbed * seconds)
    -- Slots that are reserved stay where they are: at a higher rate as much time is more tokens.
    if bucket.balance < 0 then bucket.balance = bucket.balance * rate / bucket.rate end
    bucket.rate = rate
  end
end

-- Unanswered calls: before the first of them times out, hundreds would have left. So with
-- some unanswered for longer than answers take, the next wait, each as long as all before it. A
-- DingTalk that is merely slow is soon known to be; one answer ends it.
local FEW = 5                  -- calls without an answer that show nothing yet
local SLOWER = 3               -- times as long as the slowest answers take: then silence is unusual
local EASE = 0.1               -- by which that is forgotten, an answer

-- Note answers that came, the slowest of them after so many us. Returns whether the calls are slowed down, and since
-- when none was answered (us).
local function note_answers(calls, us, answers, slow, quiet, timeout)
  if answers > 0 then
    calls.unanswered, calls.since, calls.quiet_until = 0, 0, 0
    calls.slowest = math.max(slow, calls.slowest + (slow - calls.slowest) * EASE)
  end
  local silent = us - calls.since
  if calls.since > us or silent > timeout then calls.unanswered = 0 end
  return calls.unanswered >= FEW and silent > math.max(quiet, SLOWER * calls.slowest), silent
end

-- So many calls leave.
local function note_calls(calls, us, count, silent)
  if calls.unanswered == 0 then calls.since = us end
  calls.unanswered = calls.unanswered + count
  if silent then calls.quiet_until = us + silent end
end

local function answers_of_calls(calls)
  return 'unheard', calls.unanswered, 'since', calls.since, 'hush', calls.quiet_until, 'slowest', calls.slowest
end
