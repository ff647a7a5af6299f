-- Ends jobs whose cancellation was requested. It is put before the scripts that name it, after those of
-- reservations and endings.
--
-- A job that would wait ends. It is cancelled if nothing can have come of it; with a call whose
-- answer was lost it is unknown, with the error `lost`: the message may have been delivered, the
-- approval may exist. Without `lost` it is cancelled: the campaign that withdrew it continues it.
local function end_cancelled(record, id, bare, dead, ttl, dead_ttl, lost)
  local open = lost ~= '' and redis.call('HEXISTS', record, 'intent') == 1
  local state = open and 'unknown' or 'cancelled'
  redis.call('HSET', record, 'state', state, 'settled', now)
  if state == 'unknown' then
    redis.call('HSET', record, 'error', lost)
    redis.call('ZADD', dead, now, id)
    redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - tonumber(dead_ttl))
    redis.call('PEXPIRE', dead, dead_ttl)
  end
  local kept = state == 'unknown' and dead_ttl or ttl
  redis.call('PEXPIRE', record, kept)
  bury(id, bare, kept)
  give_back(record, id)
  tell_end(id, state, unpack(redis.call('HMGET', record, 'kind', 'app', 'sender')))
  return state
end

