-- The latest jobs of an index that fit, with what lists are narrowed by and counted by.
-- Answers how many jobs it looked at, the last of them and its score; then for each that fits its id, its score and
-- these six fields and its summary. A job without a record has none of them, and fits.

local CODE = 6

local allowed = {}
for field, values in ipairs({states, kinds, apps, senders, lanes, codes}) do
  if values ~= '' then
    allowed[field] = {}
    for value in string.gmatch(values, '\n([^\n]*)') do allowed[field][value] = true end
  end
end

local NAMES = {'state', 'kind', 'app', 'sender', 'lane', 'created', 'summary'}
if person or text then NAMES[8], NAMES[9] = 'payload', 'step:addresses' end

local function asks_for(fields, part)
  if not part then return true end
  return string.find(fields[8] or '', part, 1, true) or string.find(fields[9] or '', part, 1, true)
end

local function code_of(error)
  local is_json, document = pcall(cjson.decode, error)
  return is_json and type(document) == 'table' and type(document.code) == 'string' and document.code or ''
end

-- The six fields of a record that fits, and its summary.
local function fitting(record)
  local fields = redis.call('HMGET', record, unpack(NAMES))
  if not fields[1] then return {} end
  local created = tonumber(fields[6] or 0)
  -- A moment that can't be read is named where the record is read.
  if created and (created < since or created >= before) then return end
  if not (asks_for(fields, person) and asks_for(fields, text)) then return end
  local brief = {}
  for field = 1, CODE do
    local value = fields[field] or ''
    if field == CODE then value = code_of(redis.call('HGET', record, 'error') or '') end
    if allowed[field] and not allowed[field][value] then return end
    brief[field] = value
  end
  brief[CODE + 1] = fields[7] or ''
  return brief
end

local rank = 0
if last_score then
  local score = redis.call('ZSCORE', index, last_id)
  if score and tonumber(score) == last_score then
    rank = redis.call('ZREVRANK', index, last_id) + 1
  else
    rank = redis.call('ZCOUNT', index, string.format('(%.0f', last_score), '+inf')
  end
end

local places, answer = redis.call('ZREVRANGE', index, rank, rank + most - 1, 'WITHSCORES'), {0, '', ''}
for place = 1, #places, 2 do
  local id, at = places[place], places[place + 1]
  answer[1], answer[2], answer[3] = answer[1] + 1, id, at
  local fields = fitting(JOB .. id)
  if fields then
    answer[#answer + 1] = {id, at, unpack(fields)}
    if #answer - 3 == limit then break end
  end
end
return answer
