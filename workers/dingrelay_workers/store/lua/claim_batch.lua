-- Claim the jobs that a call takes along which leaves now: the oldest that its room, and the bucket of recipients as it
-- stands, are enough for. Where more wait than there is room for, one of the caller's lane is claimed too, as the last of
-- the answer: it makes the next call.
local balance, micros
if bucket then
  micros = clock[1] * 1000000 + clock[2]
  local field = read_bucket(bucket, micros)
  balance = refilled(field[1], field[2], burst, rate, micros)
end

local gone, taken, next = {}, 0, nil
local function take(id)
  redis.call('HSETNX', JOB .. id, 'waiting', now)
  gone[#gone + 1] = id
  -- Its owner is spelt in another way than others: see `claim.lua`.
  claim_unwoken(id, owner, '.', lease)
end

for _, id in ipairs(redis.call('ZRANGE', waiting, 0, most - 1)) do
  local known = redis.call('HMGET', JOB .. id, 'state', 'batch_key', 'expires', 'recipients', 'lane', 'v', 'kind')
  local here = known[1] == 'queued' or known[1] == 'snoozed'
  if not here or known[2] ~= waiting or tonumber(known[3] or now + 1) <= now then
    gone[#gone + 1] = id
  elseif known_here(known[6], known[7]) then
    local recipients = tonumber(known[4])
    if taken + recipients > room then
      if known[5] == lane and not next then next = id end
    elseif not balance or taken + recipients <= balance then
      taken = taken + recipients
      take(id)
    end
    if taken == room and next then break end
  end
end
if next then
  claimed_unwoken[1] = next
  take(next)
end
if balance and taken > 0 then redis.call('HSET', bucket, 'balance', balance - taken, 'at', micros) end
if #gone > 0 then redis.call('ZREM', waiting, unpack(gone)) end
place_starting()
return claimed_unwoken
