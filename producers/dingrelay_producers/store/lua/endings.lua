-- How jobs end, for the transitions that end them.
--
-- Each end is written into a stream that its readers read at their own pace (`read_endings.lua`), by the
-- transition itself: no end is published without being written, or written without being published.
--
-- An entry holds id, kind, app, sender, state, and `at`, when it ended (ms). The stream is bounded: a
-- reader that is away for too long gets the number of entries that it has missed.
local endings_renewed = false

local function publish_end(id, state, kind, app, sender)
  if string.find(SILENT, ' ' .. (kind or '') .. ' ', 1, true) then return end
  redis.call('XADD', ENDINGS, 'MAXLEN', '~', MOST_ENDINGS, '*', 'id', id, 'kind', kind or '',
    'app', app or '', 'sender', sender or '', 'state', state, 'at', now)
  if not endings_renewed then redis.call('PEXPIRE', ENDINGS, ENDINGS_TTL) end
  endings_renewed = true
end

-- Jobs that have ended and are still in the place of those that run: their ids and queues, in turn.
local leaving = {}

-- Take them out, by one command for all: they should be there.
local function leave_running()
  local ids = {}
  for index = 1, #leaving, 2 do ids[#ids + 1] = leaving[index] end
  if leave_place(RUNNING, unpack(ids)) == #ids then return end
  for index = 1, #leaving, 2 do take_out(leaving[index], leaving[index + 1]) end
end

-- The record of a job that ended at a moment lives on for as long as people need it.
local function keep_ended(record, id, state, moment, bare, dead, ttl, dead_ttl)
  local record_ttl = ttl
  if state == 'dead' or state == 'unknown' then
    record_ttl = dead_ttl
    redis.call('ZADD', dead, moment, id)
    redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - dead_ttl)
    redis.call('PEXPIRE', dead, dead_ttl)
  end
  redis.call('PEXPIRE', record, record_ttl)
  bury(id, bare, record_ttl)
end

-- A job whose cancellation was requested would wait, and ends. It is cancelled if nothing can have come of
-- it; with a call whose answer was lost it is unknown, with the error `lost`: the message may have been
-- delivered, the approval may exist. Without `lost` it is cancelled: the campaign that withdrew it continues it.
local function end_cancelled(record, id, bare, dead, ttl, dead_ttl, lost)
  local open = lost ~= '' and redis.call('HEXISTS', record, 'intent') == 1
  local state = open and 'unknown' or 'cancelled'
  redis.call('HSET', record, 'state', state, 'settled', now)
  if open then redis.call('HSET', record, 'error', lost) end
  keep_ended(record, id, state, now, bare, dead, ttl, dead_ttl)
  give_back(record, id)
  publish_end(id, state, unpack(redis.call('HMGET', record, 'kind', 'app', 'sender')))
  return state
end

