-- Records without their payloads, which may be a megabyte: readers of a job's state do not need them.
-- A job that waits for the end of an outage is due at the next probe of the breaker that its record names, not at
-- the time at which it is looked at in any case.
-- Answers for each record names and values in turn. What is longer has an empty name before its own;
-- nothing where there is no record.
--
-- Where Redis packs a record, its values are short, and all of it is read at once. Else names, states, times
-- and counts are short by what they are, and the others are measured first: to ask for each field by itself
-- would be half of all commands that a job costs.
local AT_ONCE = 1000  -- fields: Lua passes up to 8,000 values, and an event of many people has a step for each
local PACKED = {listpack = true, ziplist = true}
local SHORT = {}
for name in string.gmatch([[
  kind app lane queue digest summary v state created due woken batch_key recipients fence started owner
  lease called begun settled attempts throttles not_before expires sender parent bare cancel waits_for failed retried
]], '%S+') do SHORT[name] = true end

-- A record whose values are short. They may be longer than is asked for.
local function read_packed(record, payload)
  local values, fields = redis.call('HGETALL', record), {}
  for index = 1, #values, 2 do
    local name, value = values[index], values[index + 1]
    if name ~= 'payload' or payload then
      if longest and #value > longest then name, value = '', name end
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
  end
  return fields
end

local function read_measured(record, payload)
  local fields, names = {}, {}
  for _, name in ipairs(redis.call('HKEYS', record)) do
    if name ~= 'payload' or payload then
      if not longest or SHORT[name] or redis.call('HSTRLEN', record, name) <= longest then
        names[#names + 1] = name
      else
        fields[#fields + 1], fields[#fields + 2] = '', name
      end
    end
  end
  for first = 1, #names, AT_ONCE do
    local batch = {unpack(names, first, math.min(first + AT_ONCE - 1, #names))}
    for place, value in ipairs(redis.call('HMGET', record, unpack(batch))) do
      fields[#fields + 1], fields[#fields + 2] = batch[place], value
    end
  end
  return fields
end

-- When a job that waits for a breaker runs next, at the latest at `due` (ms).
local function next_run(waits_for, due)
  local is_json, awaited = pcall(cjson.decode, waits_for)
  if not is_json or type(awaited) ~= 'table' or not awaited.breaker or not tonumber(due) then return due end
  local probe = math.floor((tonumber(redis.call('HGET', awaited.breaker, 'next')) or 0) / 1000)
  return string.format('%.0f', math.min(tonumber(due), math.max(milliseconds(), probe)))
end

local function put_due(fields)
  local place = {}
  for index = 1, #fields, 2 do place[fields[index]] = index + 1 end
  if place.waits_for and place.due and fields[place.state] == 'snoozed' then
    fields[place.due] = next_run(fields[place.waits_for], fields[place.due])
  end
  return fields
end

local answer = {}
for index, record in ipairs(records) do
  local packed = PACKED[redis.call('OBJECT', 'ENCODING', record)]
  answer[index] = put_due((packed and read_packed or read_measured)(record, with_payload[index]))
end
return answer
