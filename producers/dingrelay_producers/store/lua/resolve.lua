-- A person states the outcome of a call whose answer was lost: an unknown job is done, or nothing of
-- it is open any more and it can be requeued.
-- KEYS: record, dead, then, if an approval was found, the instance's job and the job's instance
-- ARGV: id, happened (1 or 0), the person and the reason (JSON, to which the time is added), result (JSON
--       or ''), ttl of a settled record (ms), then, if an approval was found, instance, ttl of the
--       instance's mark, ttl of the job's (ms)
-- Answers {state before}, {'newer'} if this release does not know how to, or {'taken', job} if the
-- instance is another job's; nil if there is no such job.
local record, dead, instance, own = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, happened, said, result, ttl = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4], ARGV[5]
local found, found_ttl, own_ttl = ARGV[6], ARGV[7], ARGV[8]
local state, bare, kind, app, sender =
  unpack(redis.call('HMGET', record, 'state', 'bare', 'kind', 'app', 'sender'))
if not state then return nil end
if newer(record) then return {'newer'} end
if state ~= 'unknown' then return {state} end

if instance then
  local held = redis.call('GET', instance)
  local holder = held and string.match(held, '^%d+ (.*)$')
  if holder and holder ~= id then return {'taken', holder} end
  redis.call('SET', instance, now .. ' ' .. id, 'PX', found_ttl)
  redis.call('SET', own, found, 'PX', own_ttl)
end
local resolved = cjson.decode(said)
resolved.at = now
redis.call('HSET', record, 'resolved', cjson.encode(resolved))
redis.call('HDEL', record, 'intent')
if happened then
  redis.call('HSET', record, 'state', 'done', 'settled', now)
  redis.call('HDEL', record, 'error')
  if result ~= '' then redis.call('HSET', record, 'result', result) end
  redis.call('PEXPIRE', record, ttl)
  bury(id, bare, ttl)
  redis.call('ZREM', dead, id)
  publish_end(id, 'done', kind, app, sender)
else
  give_back(record, id)
end
return {state}
