-- DingTalk's day, which is Beijing's, for scripts that name it. What its clock is known to be ahead of
-- the server's is in the moment at which the day began.

local DAY = 86400000   -- ms
local STILL = 2000     -- ms before and after midnight in which nothing leaves: what DingTalk's clock
                       -- shows is known to the second, and a call needs time to arrive

-- What keeps a call of the day that began at `began` (ms of the server's clock) from leaving: nil, or an
-- answer: it is another day by now, or milliseconds to wait until it surely is the next one. `given` is
-- the time (ms) that tests bring; empty for the server's.
local served  -- the server's time (ms), asked once a run

local function day_is_over(began, given)
  local now = tonumber(given) or served
  if not now then
    local time = redis.call('TIME')
    served = time[1] * 1000 + math.floor(time[2] / 1000)
    now = served
  end
  local since = now - tonumber(began)
  if since < 0 or since >= DAY then return {'another day', now} end
  if since < STILL then return {'wait', STILL - since} end
  if since >= DAY - STILL then return {'wait', DAY - since + STILL} end
end

