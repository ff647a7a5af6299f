-- The jobs parked in a lane.
-- Answers {jobs, calls that they make, recipients of these}. Of very many senders or jobs a part is looked at,
-- and the rest taken to be like it.

local CARRIED = 100  -- recipients of one call (API §2.1)

local senders = redis.call('ZRANGE', turns, 0, most_senders - 1)
local all = redis.call('ZCARD', turns)
local jobs, calls, recipients = 0, 0, 0

for _, sender in ipairs(senders) do
  local parked = prefix .. sender
  local size = redis.call('ZCARD', parked)
  local some = redis.call('ZRANGE', parked, 0, math.floor(most_jobs / #senders))
  local contents, here, own_calls, own_recipients = {}, 0, 0, 0
  for _, id in ipairs(some) do
    local job = redis.call('HMGET', JOB .. id, 'state', 'parked', 'batch_key', 'recipients')
    if job[1] == 'snoozed' and job[2] == parked then
      local people = tonumber(job[4] or 1)
      here, own_recipients = here + 1, own_recipients + people
      if job[3] then
        contents[job[3]] = (contents[job[3]] or 0) + people
      else
        own_calls = own_calls + 1
      end
    end
  end
  for _, people in pairs(contents) do own_calls = own_calls + math.ceil(people / CARRIED) end
  local scale = #some > 0 and size / #some or 0
  jobs, calls, recipients = jobs + here * scale, calls + own_calls * scale, recipients + own_recipients * scale
end

local scale = #senders > 0 and all / #senders or 0
return {math.floor(jobs * scale + 0.5), math.ceil(calls * scale), math.ceil(recipients * scale)}
