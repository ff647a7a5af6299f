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
  local ids = redis.call('ZRANGE', parked, 0, math.floor(most_jobs / #senders))
  local contents, parked_jobs, sender_calls, sender_recipients = {}, 0, 0, 0
  for _, id in ipairs(ids) do
    local job = redis.call('HMGET', JOB .. id, 'state', 'parked', 'batch_key', 'recipients')
    if job[1] == 'snoozed' and job[2] == parked then
      local people = tonumber(job[4] or 1)
      parked_jobs, sender_recipients = parked_jobs + 1, sender_recipients + people
      if job[3] then
        contents[job[3]] = (contents[job[3]] or 0) + people
      else
        sender_calls = sender_calls + 1
      end
    end
  end
  for _, people in pairs(contents) do sender_calls = sender_calls + math.ceil(people / CARRIED) end
  local scale = #ids > 0 and size / #ids or 0
  jobs, calls, recipients = jobs + parked_jobs * scale, calls + sender_calls * scale, recipients + sender_recipients * scale
end

local scale = #senders > 0 and all / #senders or 0
return {math.floor(jobs * scale + 0.5), math.ceil(calls * scale), math.ceil(recipients * scale)}
