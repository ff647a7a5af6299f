-- Turns of the senders with parked jobs in a lane, and the cost of a call under the limits.
--
-- `turns` is a sorted set: sender -> what it has had, in seconds of the limit. Who has had least is next.
-- A sender is in it while it has jobs parked, and until the others have had as much as it.

local BEHIND = 1 / 16    -- of a call, by which a new sender stands behind the one that is next: in the same
                         -- place, ever new senders could keep the others from their second call
local UNLIMITED = 0.001  -- s that a call counts at least: senders take turns without a limit, too

-- Usage of a sender that wants a call of so many seconds. Its usage before others came, and what
-- they had before it came, does not count.
local function had(turns, sender, seconds)
  local usage = tonumber(redis.call('ZSCORE', turns, sender) or nil)
  if usage then return usage end
  local least = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')[2]
  return least and tonumber(least) + BEHIND * seconds or 0
end

-- A sender has a call of so many seconds.
local function charge(turns, sender, seconds)
  redis.call('ZADD', turns, had(turns, sender, seconds) + seconds, sender)
end
