-- How a job that has ended is told to whoever keeps account: a stream that each reader reads at its own
-- pace (`read_endings.lua`). It is put before the transitions that end jobs, so that no end is told
-- without being written, or written without being told.
--
-- An entry holds id, kind, app, sender, state, and `at`, when it ended (ms). The stream is bounded: a
-- reader that is away for too long is told how many entries it has missed.
local function tell_end(record, id, state)
  local known = redis.call('HMGET', record, 'kind', 'app', 'sender')
  if known[1] == UNTOLD then return end
  redis.call('XADD', ENDINGS, 'MAXLEN', '~', MOST_ENDINGS, '*', 'id', id, 'kind', known[1] or '',
    'app', known[2] or '', 'sender', known[3] or '', 'state', state, 'at', now)
  redis.call('PEXPIRE', ENDINGS, ENDINGS_TTL)
end

