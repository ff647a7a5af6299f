-- Claim jobs that were woken for their turn in a lane, and whose wake-ups are late. Answers as for a batch.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', in_turn, '-inf', now - late)) do
  if #claimed_unwoken - 2 >= most then break end
  local fields = redis.call('HMGET', JOB .. id, 'state', 'turn', 'queue', 'v', 'kind', 'batch_key')
  if fields[1] == 'snoozed' and fields[2] == in_turn and fields[3] == queue
      and known_here(fields[4], fields[5]) and not hold(id) then
    claim_unwoken(id, owner, '-', lease)
    if fields[6] then redis.call('ZREM', fields[6], id) end
  end
end
place_starting()
return claimed_unwoken
