-- A person states the outcome of a call whose answer was lost: an unknown job is done, or nothing of
-- it is open any more and it can be requeued, for its other calls as well.
-- Answers {state before}, {'newer'} if this release does not know how to, or {'taken', job} if the
-- instance is another job's; nil if there is no such job.
local state, bare, kind, app, sender =
  unpack(redis.call('HMGET', record, 'state', 'bare', 'kind', 'app', 'sender'))
if not state then return nil end
if newer(record) then return {'newer'} end
if state ~= 'unknown' then return {state} end

if approval then
  local held = redis.call('GET', approval_owner)
  local holder = held and string.match(held, '^%d+ (.*)$')
  if holder and holder ~= job then return {'taken', holder} end
end
if rehearsal then return {state} end
if approval then
  redis.call('SET', approval_owner, now .. ' ' .. job, 'PX', approval_ttl)
  redis.call('SET', job_approval, approval, 'PX', job_ttl)
end
local resolved = cjson.decode(decision)
resolved.at = now
redis.call('HSET', record, 'resolved', cjson.encode(resolved))
redis.call('HDEL', record, 'intent')
if step then redis.call('HSET', record, 'step:' .. step, outcome) end
if happened and not goes_on then
  redis.call('HSET', record, 'state', 'done', 'settled', now)
  redis.call('HDEL', record, 'error')
  if result then redis.call('HSET', record, 'result', result) end
  redis.call('PEXPIRE', record, ttl)
  bury(job, bare, ttl)
  redis.call('ZREM', dead, job)
  publish_end(job, 'done', kind, app, sender)
else
  give_back(record, job)
end
return {state}
