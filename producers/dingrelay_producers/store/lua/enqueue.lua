-- Accept jobs: for each its record and its place, both or neither; and wake them, if their queues are
-- here.
-- KEYS: recent, and a lease if only its holder may
-- ARGV: recent size, recent ttl, ttl of where jobs wait for a call that carries several, the lease's
--       value or '', and for each job: id, kind, app, lane, queue, payload, digest, summary, due or 0,
--       expires or '', parent, bare (1: the message of a client without our package), where it waits
--       for a call that carries several jobs or '', recipients it takes there, sender or '', its trace
--       or '', named (1: a job of this id may have been discarded), the wake-up up to its time or '',
--       what follows the time, the channel that hears of it or '', what it hears (times in ms)
-- Answers for each job, one behind the other: verdict, when it was accepted or 0; verdict: created
-- | unpublished: created, and its wake-up of that time is still to be published | exists | conflict
-- | gone: the job of this message is over and forgotten | fenced: the lease is another's.
local recent, lease = KEYS[1], KEYS[2]
local recent_size, recent_ttl, batch_key_ttl, holder = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local FIRST, FIELDS = 5, 21
local TRIMMED = 1000  -- ms between two looks at whether the newest are too many
local DUE, LATEST = 8, 2 ^ 53 - MARGIN  -- its place among a job's; what Redis still takes for a time

-- The answers, the accepted jobs (id -> digest), and the writes for all jobs that are made at once at the end.
local answers, accepted, latest, tombstones, woken = {}, {}, {}, {}, {}
local this_history, all_new

local function accept(
  id, kind, app, lane, queue, payload, digest, summary, due, expires, parent, bare,
  batch_key, recipients, sender, trace, named, before, after, channel, event
)
  local record = JOB .. id
  due, bare = tonumber(due), bare == '1'
  local known = accepted[id] or not all_new and redis.call('HGET', record, 'digest')
  if known then return add(answers, known == digest and 'exists' or 'conflict', 0) end
  if bare and redis.call('EXISTS', TOMBSTONE .. id) == 1 then return add(answers, 'gone', 0) end

  local later = due > now
  local fields = {
    'kind', kind, 'app', app, 'lane', lane, 'queue', queue,
    'payload', payload, 'digest', digest, 'summary', summary,
    'v', FORMAT, 'state', 'queued', 'created', now, 'due', later and due or now, 'woken', later and 0 or now
  }
  if later then add(fields, 'not_before', due) end
  if expires ~= '' then add(fields, 'expires', expires) end
  if sender ~= '' then add(fields, 'sender', sender) end
  if parent ~= '' then add(fields, 'parent', parent) end
  if trace ~= '' then add(fields, 'trace', trace) end
  if bare then add(fields, 'bare', 1) end
  if changing_step(kind) then
    this_history = this_history or history()
    add(fields, 'history', this_history)
  end
  if batch_key ~= '' then
    add(fields, 'batch_key', batch_key)
    add(fields, 'recipients', recipients)
  end
  redis.call('HSET', record, unpack(fields))
  accepted[id] = digest

  add(latest, now, id)
  if named == '1' then tombstones[#tombstones + 1] = TOMBSTONE .. id end
  if later then
    place_until(id, due)
    return add(answers, 'created', now)
  end
  if batch_key ~= '' then
    redis.call('ZADD', batch_key, now, id)
    redis.call('PEXPIRE', batch_key, batch_key_ttl)
  end
  local queued = woken[queue]
  if not queued then
    queued = { ids = {}, messages = {}, events = {}, verdicts = {} }
    woken[queue] = queued
  end
  queued.ids[#queued.ids + 1] = id
  add(answers, 'unpublished', now)
  if before ~= '' then
    queued.messages[#queued.messages + 1] = before .. now .. after
    queued.verdicts[#queued.verdicts + 1] = #answers - 1
    if channel ~= '' then add(queued.events, channel, event) end
  end
end

-- An error after the first write would leave jobs without a place.
local records = {}
for at = FIRST, #ARGV, FIELDS do
  local due = tonumber(ARGV[at + DUE])
  if not due or due ~= math.floor(due) or due > LATEST then
    return redis.error_reply('ERR the due of ' .. ARGV[at] .. ' is no time')
  end
  records[#records + 1] = JOB .. ARGV[at]
end
local fenced = lease and redis.call('GET', lease) ~= holder
all_new = redis.call('EXISTS', unpack(records)) == 0
for at = FIRST, #ARGV, FIELDS do
  if fenced then add(answers, 'fenced', 0) else accept(unpack(ARGV, at, at + FIELDS - 1)) end
end
if not latest[1] then return answers end

for queue, queued in pairs(woken) do place_all_woken(queued.ids, queue, now) end
redis.call('ZADD', recent, unpack(latest))
local left = redis.call('PTTL', recent)
-- More is left than was given where the clock has stepped back.
if left < recent_ttl - TRIMMED or left > recent_ttl then
  redis.call('ZREMRANGEBYRANK', recent, 0, -1 - recent_size)
  redis.call('PEXPIRE', recent, recent_ttl)
end
-- After the first write, which a full Redis refuses: once a script has written it takes the rest.
-- A discarded job that is enqueued by its key again is wanted again.
if tombstones[1] then redis.call('DEL', unpack(tombstones)) end

for queue, queued in pairs(woken) do
  -- The jobs are accepted already: that their user may not write to the queue must not end in an error.
  local pushed = queued.messages[1] and redis.pcall('LPUSH', queue, unpack(queued.messages))
  if type(pushed) == 'number' then
    for _, verdict in ipairs(queued.verdicts) do answers[verdict] = 'created' end
    for at = 1, #queued.events, 2 do
      redis.pcall('PUBLISH', queued.events[at], queued.events[at + 1])
    end
  end
end
return answers
