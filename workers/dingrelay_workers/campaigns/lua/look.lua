-- Tell which jobs have ended or have no record.
-- KEYS: records
-- Answers for each of them {index, state or '', result, error, 1 if a call left or was answered}.
local found = {}
for i = 1, #KEYS do
  local field = redis.call('HMGET', KEYS[i], 'state', 'result', 'error', 'intent', 'step:call')
  local state = field[1]
  if not state or (state ~= 'queued' and state ~= 'running' and state ~= 'snoozed'
      and state ~= 'retrying') then
    found[#found + 1] = {i, state or '', field[2] or '', field[3] or '',
      (field[4] or field[5]) and 1 or 0}
  end
end
return found
