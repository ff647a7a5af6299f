-- Count the open jobs of a part of a place, by application, lane, kind and sender.
--
-- Answers how many stand there in all, and for each group {app, lane, kind, sender, queue, ready, parked,
-- paused, snoozed, retrying, scheduled, running, calls, recipients, since when the oldest waits (ms; 0:
-- none does)}. Calls and recipients are those of the jobs that wait and are neither scheduled nor paused; jobs of equal content
-- that one call can carry count as what their calls would be.

local CARRIED = 100  -- recipients of one call (API §2.1)
local READY, PARKED, PAUSED, SNOOZED, RETRYING, SCHEDULED, ACTIVE, CALLS, PEOPLE, SINCE = 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

local groups, contents, answer = {}, {}, {redis.call('ZCARD', place)}

local function group_of(app, lane, kind, sender, queue)
  local name = table.concat({app, lane, kind, sender, queue}, '\n')
  if not groups[name] then
    groups[name] = {app, lane, kind, sender, queue, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
    answer[#answer + 1] = groups[name]
  end
  return groups[name]
end

local function increase(group, index, amount) group[index] = group[index] + amount end

-- Cost of a job: of jobs that may share a call only the recipients, until all are counted.
local function cost(group, batch_key, recipients, summary)
  if batch_key then
    local content = contents[batch_key] or {group, 0}
    contents[batch_key] = {content[1], content[2] + (tonumber(recipients) or 1)}
    return
  end
  local recipient_count = string.match(summary, ' users=(%d+)') or string.match(summary, ' to (%d+) user')
  local people = tonumber(recipient_count) or 1
  increase(group, CALLS, math.ceil(math.max(1, people) / CARRIED))
  increase(group, PEOPLE, people)
end

for _, id in ipairs(redis.call('ZRANGE', place, first, last)) do
  local fields = redis.call('HMGET', JOB .. id, 'state', 'app', 'lane', 'kind', 'sender', 'queue', 'created',
    'due', 'not_before', 'parked', 'batch_key', 'recipients', 'summary', 'waits_for')
  local state, due, created = fields[1], tonumber(fields[8]) or 0, tonumber(fields[7]) or now
  if fields[2] and fields[3] and fields[4] and fields[6] and (waits(state) or state == 'running') then
    local group = group_of(fields[2], fields[3], fields[4], fields[5] or '', fields[6])
    if state == 'running' then
      increase(group, ACTIVE, 1)
    elseif state == 'queued' and due > now then
      increase(group, SCHEDULED, 1)
    else
      local index = READY
      if state == 'snoozed' then
        index = fields[10] and PARKED or waits_for_pause(fields[14]) and PAUSED or SNOOZED
      end
      if state == 'retrying' then index = RETRYING end
      increase(group, index, 1)
      local since = math.max(created, tonumber(fields[9]) or 0)
      if group[SINCE] == 0 or since < group[SINCE] then group[SINCE] = since end
      if index ~= PAUSED then cost(group, fields[11], fields[12], fields[13] or '') end
    end
  end
end

for _, content in pairs(contents) do
  increase(content[1], CALLS, math.ceil(content[2] / CARRIED))
  increase(content[1], PEOPLE, content[2])
end
return answer
