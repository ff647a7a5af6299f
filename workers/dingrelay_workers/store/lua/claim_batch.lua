-- Claim the jobs that a call takes along which leaves now: the oldest that its room, and the bucket of recipients as it
-- stands, are enough for. Where more wait than there is room for, one of the caller's lane is claimed too, as the last of
-- the answer: it makes the next call.
local balance, micros
if bucket then
  micros = clock[1] * 1000000 + clock[2]
  local field = read_bucket(bucket, micros)
  balance = refilled(field[1], field[2], burst, rate, micros)
end

local stale, recipients_taken, next = {}, 0, nil
local function take(id)
  redis.call('HSETNX', JOB .. id, 'waiting', now)
  stale[#stale + 1] = id
  -- Its owner is spelt in another way than others: see `claim.lua`.
  claim_unwoken(id, owner, '.', lease)
end

for _, id in ipairs(redis.call('ZRANGE', waiting, 0, most - 1)) do
  local fields = redis.call('HMGET', JOB .. id, 'state', 'batch_key', 'expires', 'recipients', 'lane', 'v', 'kind')
  local is_queued = fields[1] == 'queued' or fields[1] == 'snoozed'
  if not is_queued or fields[2] ~= waiting or tonumber(fields[3] or now + 1) <= now then
    stale[#stale + 1] = id
  elseif hold(id) then
    stale[#stale + 1] = id
  elseif known_here(fields[6], fields[7]) then
    local recipients = tonumber(fields[4])
    if recipients_taken + recipients > room then
      if fields[5] == lane and not next then next = id end
    elseif not balance or recipients_taken + recipients <= balance then
      recipients_taken = recipients_taken + recipients
      take(id)
    end
    if recipients_taken == room and next then break end
  end
end
if next then
  claimed_unwoken[1] = next
  take(next)
end
if balance and recipients_taken > 0 then redis.call('HSET', bucket, 'balance', balance - recipients_taken, 'at', micros) end
if #stale > 0 then redis.call('ZREM', waiting, unpack(stale)) end
place_starting()
return claimed_unwoken
