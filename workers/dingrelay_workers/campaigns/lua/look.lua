-- Tell which jobs have ended or have no record.
-- KEYS: records
-- Answers for each of them {index, state or '', result, error, 1 if a call left or was answered}. Of a job that
-- repeats a lost one it is not known: that may have made the call.
local found = {}
for i = 1, #KEYS do
  local field = redis.call('HMGET', KEYS[i], 'state', 'result', 'error', 'intent', 'step:call')
  local state = field[1]
  if not state or (state ~= 'queued' and state ~= 'running' and state ~= 'snoozed'
      and state ~= 'retrying') then
    local touched = field[4] or field[5]
    if not touched and (state == 'cancelled' or state == 'dead') then
      -- To decode it would take ten times as long. No text in it can hold quotes like these.
      touched = string.find(redis.call('HGET', KEYS[i], 'payload') or '', '"repeated":true', 1, true)
    end
    found[#found + 1] = {i, state or '', field[2] or '', field[3] or '', touched and 1 or 0}
  end
end
return found
