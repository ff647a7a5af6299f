-- running → snoozed | retrying | queued: the job waits on the schedule.
-- KEYS: record, dead, all places where jobs wait for the end of an outage, this job's, all lanes with
--       parked jobs, the turns of this job's, its sender's parked jobs, the breakers of the API, of its host and
--       of the app for whose end it waits, each or ''
-- ARGV: id, owner, fence, state, delay, attempts made, throttles met, error (JSON or ''),
--       answered (1: no call of this job is open any more), waiting since (ms or 0), ttl of a
--       cancelled record, of an unknown one, error of one that was cancelled and is unknown (JSON),
--       alone (1: it never shares a call again), ttl of those who wait for a turn, or for a call
--       that carries several jobs, name of the outage that it waits for or '', rank of its lane, ttl of
--       those who wait there, when it must be looked at by the latest (0: whenever), the lane in which it is
--       parked or '', its sender, what that has had if it is new there, recipients of its call, the trace of
--       this run if the job has none or '', then step and outcome of each finished step (times in ms)
-- Answers the state after, or '' if the job is no longer this owner's.
local record, dead = KEYS[1], KEYS[2]
local id, owner, fence, state, delay = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local attempts, throttles, error, answered = ARGV[6], ARGV[7], ARGV[8], ARGV[9] == '1'
local waiting, cancelled_ttl, dead_ttl, lost = ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local alone, batch_key_ttl = ARGV[14] == '1', ARGV[15]
local outage, rank, outage_ttl, latest = ARGV[16], tonumber(ARGV[17]), ARGV[18], tonumber(ARGV[19])
local outages, there = KEYS[3], KEYS[4]
local lanes, turns, parked = KEYS[5], KEYS[6], KEYS[7]
local of_api, of_host, of_app = KEYS[8], KEYS[9], KEYS[10]
local lane, sender, had, recipients, trace = ARGV[20], ARGV[21], ARGV[22], ARGV[23], ARGV[24]

local current, cancelled, batch_key, created, queue, bare =
  owned(record, owner, fence, 'cancel', 'batch_key', 'created', 'queue', 'bare')
if current ~= 'running' then return '' end

-- What a job waits for whose outage has this name: the widest of the breakers that stand open.
local function waits_for()
  local app, api, host = string.match(outage, '^(%S+) (%S+) (%S+)$')
  for _, each in ipairs({{'app', app, of_app}, {'host', host, of_host}, {'api', api, of_api}}) do
    if redis.call('HEXISTS', each[3], 'opened') == 1 then
      return cjson.encode({what = each[1], name = each[2], breaker = each[3]})
    end
  end
end

local values, gone = {}, {'owner', 'lease', 'crashes', 'losses', 'turn'}
local awaited = outage ~= '' and waits_for()
if awaited then add(values, 'waits_for', awaited) else gone[#gone + 1] = 'waits_for' end
for index = 25, #ARGV, 2 do add(values, 'step:' .. ARGV[index], ARGV[index + 1]) end
if answered then gone[#gone + 1] = 'intent' end
if error ~= '' then add(values, 'error', error) end
if tonumber(throttles) > 0 then redis.call('HINCRBY', record, 'throttles', throttles) end
-- A job that keeps failing ends by the time that it has waited for attempts: neither what it waits
-- for otherwise counts, nor what failed before an outage, which may have been its beginning.
if tonumber(attempts) > 0 then
  redis.call('HINCRBY', record, 'attempts', attempts)
  redis.call('HINCRBY', record, 'failed', attempts)
  redis.call('HINCRBY', record, 'retried', math.floor(tonumber(delay)))
end
if outage ~= '' then gone[#gone + 1], gone[#gone + 2] = 'retried', 'failed' end
if waiting ~= '0' then
  add(values, 'waiting', waiting)
else
  gone[#gone + 1] = 'waiting'
end
if alone then gone[#gone + 1], gone[#gone + 2] = 'batch_key', 'recipients' end
local due = now + math.floor(tonumber(delay))
if latest > 0 then due = math.max(now, math.min(due, latest)) end
if not cancelled then
  add(values, 'state', state)
  add(values, 'due', due)
  add(values, 'woken', 0)
end
if cancelled or lane == '' then
  gone[#gone + 1] = 'parked'
else
  add(values, 'parked', parked)
  if not batch_key then add(values, 'recipients', recipients) end
end
write(record, values)
redis.call('HDEL', record, unpack(gone))
-- The runs of a job sent without a trace are one trace, from its first one on.
if trace ~= '' then redis.call('HSETNX', record, 'trace', trace) end

if leave_place(RUNNING, id) == 0 then take_out(id, queue) end
if cancelled then
  if cancelled == 'withdrawn' then lost = '' end
  return end_cancelled(record, id, bare, dead, cancelled_ttl, dead_ttl, lost)
end
place_until(id, due)
if outage ~= '' then
  -- Lane by lane, and in a lane as they came: so they are woken.
  redis.call('ZADD', there, rank * 10000000000000 + now, id)
  redis.call('PEXPIRE', there, outage_ttl)
  redis.call('HSET', outages, outage, now)
  redis.call('PEXPIRE', outages, outage_ttl)
end
if lane ~= '' then
  redis.call('ZADD', parked, waiting, id)
  redis.call('ZADD', turns, 'NX', had, sender)
  redis.call('ZADD', lanes, now, lane)
  for _, key in ipairs({parked, turns, lanes}) do redis.call('PEXPIRE', key, batch_key_ttl) end
end
if batch_key and not alone and (waiting ~= '0' or state == 'queued') then
  redis.call('ZADD', batch_key, created, id)
  redis.call('PEXPIRE', batch_key, batch_key_ttl)
end
return state
