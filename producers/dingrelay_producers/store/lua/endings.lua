-- How the end of a job is passed to its readers: a stream that each reader reads at its own
-- pace (`read_endings.lua`). It is put before the transitions that end jobs, so that no end is passed on
-- without being written, or written without being passed on.
--
-- An entry holds id, kind, app, sender, state, and `at`, when it ended (ms). The stream is bounded: a
-- reader that is away for too long gets the number of entries that it has missed.
local ends_told = false

local function tell_end(id, state, kind, app, sender)
  if string.find(UNTOLD, ' ' .. (kind or '') .. ' ', 1, true) then return end
  redis.call('XADD', ENDINGS, 'MAXLEN', '~', MOST_ENDINGS, '*', 'id', id, 'kind', kind or '',
    'app', app or '', 'sender', sender or '', 'state', state, 'at', now)
  if not ends_told then redis.call('PEXPIRE', ENDINGS, ENDINGS_TTL) end
  ends_told = true
end

