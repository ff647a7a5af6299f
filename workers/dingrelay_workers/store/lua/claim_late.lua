-- Claim jobs that were woken for their turn in a lane, and whose wake-ups are late. Answers as for a batch.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', in_turn, '-inf', now - late)) do
  if #claimed_unwoken - 2 >= most then break end
  local known = redis.call('HMGET', JOB .. id, 'state', 'turn', 'queue', 'v', 'kind', 'batch_key')
  if known[1] == 'snoozed' and known[2] == in_turn and known[3] == queue
      and known_here(known[4], known[5]) then
    claim_unwoken(id, owner, '-', lease)
    if known[6] then redis.call('ZREM', known[6], id) end
  end
end
place_starting()
return claimed_unwoken
