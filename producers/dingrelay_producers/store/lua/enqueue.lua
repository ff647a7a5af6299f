-- Accept a job: its record and its place, both or neither.
-- KEYS: record, recent, and a lease if only its holder may
-- ARGV: id, kind, app, lane, queue, payload, digest, summary, due or 0, expires or '', parent,
--       bare (1: the message of a client without our package), recent size, recent ttl, where it
--       waits for a call that carries several jobs or '', recipients it takes there, ttl of that,
--       sender or '', its trace or '', the lease's value (times in ms)
-- Answers {verdict, time of the wake-up to publish or 0}; verdict: created | exists | conflict
-- | gone: the job of this message is over and forgotten | fenced: the lease is another's.
local record, recent, lease = KEYS[1], KEYS[2], KEYS[3]
local id, kind, app, lane, queue = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local payload, digest, summary, due = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local expires, parent, bare = ARGV[10], ARGV[11], ARGV[12] == '1'
local recent_size, recent_ttl = tonumber(ARGV[13]), ARGV[14]
local batch_key, recipients, batch_key_ttl = ARGV[15], ARGV[16], ARGV[17]
local sender, trace, holder = ARGV[18], ARGV[19], ARGV[20]

if lease and redis.call('GET', lease) ~= holder then return {'fenced', 0} end
local known = redis.call('HGET', record, 'digest')
if known then return {known == digest and 'exists' or 'conflict', 0} end
if bare and redis.call('EXISTS', TOMBSTONE .. id) == 1 then return {'gone', 0} end

local later = due > now
redis.call('HSET', record,
  'kind', kind, 'app', app, 'lane', lane, 'queue', queue,
  'payload', payload, 'digest', digest, 'summary', summary,
  'v', FORMAT, 'state', 'queued', 'created', now, 'due', later and due or now, 'woken', later and 0 or now)
-- After the first write, which a full Redis refuses: once a script has written it takes the rest.
-- Whoever asks for a job by its key once more, after it was discarded, means it.
redis.call('DEL', TOMBSTONE .. id)
if later then redis.call('HSET', record, 'not_before', due) end
if expires ~= '' then redis.call('HSET', record, 'expires', expires) end
if sender ~= '' then redis.call('HSET', record, 'sender', sender) end
if parent ~= '' then redis.call('HSET', record, 'parent', parent) end
if trace ~= '' then redis.call('HSET', record, 'trace', trace) end
if bare then redis.call('HSET', record, 'bare', 1) end
if kind == MADE_ONCE then redis.call('HSET', record, 'history', history()) end
if batch_key ~= '' then
  redis.call('HSET', record, 'batch_key', batch_key, 'recipients', recipients)
  if not later then
    redis.call('ZADD', batch_key, now, id)
    redis.call('PEXPIRE', batch_key, batch_key_ttl)
  end
end
if later then place_until(id, due) else place_woken(id, queue, now) end

redis.call('ZADD', recent, now, id)
redis.call('ZREMRANGEBYRANK', recent, 0, -1 - recent_size)
redis.call('PEXPIRE', recent, recent_ttl)
return {'created', later and 0 or now}
