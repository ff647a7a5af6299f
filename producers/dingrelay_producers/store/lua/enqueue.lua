-- Accept jobs: for each its record and its place, both or neither; and wake them, if their queues are
-- here.
-- Answers for each job, one behind the other: verdict, when it was accepted or 0; verdict: created
-- | unpublished: created, and its wake-up of that time is still to be published | exists | conflict
-- | gone: the job of this message is over and forgotten | fenced: the lease is another's.
local TRIMMED = 1000  -- ms between two looks at whether the newest are too many
local LATEST = 2 ^ 53 - MARGIN  -- the last moment that Redis takes

-- The answers, the accepted jobs (id -> digest), and the writes for all jobs that are made at once at the end.
local answers, accepted, latest, tombstones, woken = {}, {}, {}, {}, {}
local this_history, all_new

local function accept(job, record)
  local id, queue, due = job.id, job.queue, job.due
  local stored_digest = accepted[id] or not all_new and redis.call('HGET', record, 'digest')
  if stored_digest then return add(answers, stored_digest == job.digest and 'exists' or 'conflict', 0) end
  if job.bare and redis.call('EXISTS', TOMBSTONE .. id) == 1 then return add(answers, 'gone', 0) end

  local later = due > now
  local fields = {
    'kind', job.kind, 'app', job.app, 'lane', job.lane, 'queue', queue,
    'payload', job.payload, 'digest', job.digest, 'summary', job.summary,
    'v', FORMAT, 'state', 'queued', 'created', now, 'due', later and due or now, 'woken', later and 0 or now
  }
  if later then add(fields, 'not_before', due) end
  if job.expires then add(fields, 'expires', job.expires) end
  if job.sender ~= '' then add(fields, 'sender', job.sender) end
  if job.parent ~= '' then add(fields, 'parent', job.parent) end
  if job.trace ~= '' then add(fields, 'trace', job.trace) end
  if job.bare then add(fields, 'bare', 1) end
  if job.looked_for then
    this_history = this_history or history()
    add(fields, 'history', this_history)
  end
  local batch_key = job.batch_key
  if batch_key ~= '' then
    add(fields, 'batch_key', batch_key)
    add(fields, 'recipients', job.recipients)
  end
  redis.call('HSET', record, unpack(fields))
  accepted[id] = job.digest

  add(latest, now, id)
  if job.has_key then tombstones[#tombstones + 1] = TOMBSTONE .. id end
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
  if job.before ~= '' then
    queued.messages[#queued.messages + 1] = job.before .. now .. job.after
    queued.verdicts[#queued.verdicts + 1] = #answers - 1
    if job.channel ~= '' then add(queued.events, job.channel, job.event) end
  end
end

-- An error after the first write would leave jobs without a place.
local records = {}
for index, job in ipairs(jobs) do
  if not job.due or job.due ~= math.floor(job.due) or job.due > LATEST then
    return redis.error_reply('ERR the due of ' .. job.id .. ' is no time')
  end
  records[index] = JOB .. job.id
end
local fenced = lease and redis.call('GET', lease) ~= holder
all_new = redis.call('EXISTS', unpack(records)) == 0
for index, job in ipairs(jobs) do
  if fenced then add(answers, 'fenced', 0) else accept(job, records[index]) end
end
if not latest[1] then return answers end

for queue, queued in pairs(woken) do place_all_woken(queued.ids, queue, now) end
redis.call('ZADD', recent, unpack(latest))
local remaining_ms = redis.call('PTTL', recent)
-- More is left than was given where the clock has stepped back.
if remaining_ms < recent_ttl - TRIMMED or remaining_ms > recent_ttl then
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
