-- The latest jobs of an index that fit, with what lists are narrowed by and counted by.
-- Answers how many jobs it looked at, the last of them and its score, and 1 if the index may have more; then for each
-- that fits its id, its score and these six fields and its summary. A job without a record has none of them, and fits.

local CODE = 6
-- Bytes of payloads and addresses that one call reads; a bulk message may have 64 KiB. So no call takes longer than a
-- few milliseconds, and jobs of one line are looked at as many at a time as where none of it is read.
local TEXTS = 262144
local read = 0

local allowed = {}
for field, values in ipairs({states, kinds, apps, senders, lanes, codes}) do
  if values ~= '' then
    allowed[field] = {}
    for value in string.gmatch(values, '\n([^\n]*)') do allowed[field][value] = true end
  end
end

local NAMES = {'state', 'kind', 'app', 'sender', 'lane', 'created', 'summary'}

-- Whether payload or addresses hold the person and the text; so does a job without a record.
local function asks_for(record)
  if not (person or text) then return true end
  local texts = redis.call('HMGET', record, 'payload', 'step:addresses')
  local payload, addresses = texts[1] or '', texts[2] or ''
  read = read + #payload + #addresses
  local function holds(part)
    return not part or string.find(payload, part, 1, true) or string.find(addresses, part, 1, true)
  end
  return not texts[1] or holds(person) and holds(text)
end

local function code_of(error)
  local is_json, document = pcall(cjson.decode, error)
  return is_json and type(document) == 'table' and type(document.code) == 'string' and document.code or ''
end

-- The six fields of a record that fits, and its summary.
local function fitting(record)
  if not asks_for(record) then return end
  local fields = redis.call('HMGET', record, unpack(NAMES))
  if not fields[1] then return {} end
  local created = tonumber(fields[6] or 0)
  -- A moment that can't be read is named where the record is read.
  if created and (created < since or created >= before) then return end
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

local places = redis.call('ZREVRANGE', index, rank, rank + most - 1, 'WITHSCORES')
local answer = {0, '', '', #places == 2 * most and 1 or 0}
for place = 1, #places, 2 do
  local id, at = places[place], places[place + 1]
  answer[1], answer[2], answer[3] = answer[1] + 1, id, at
  local fields = fitting(JOB .. id)
  if fields then
    answer[#answer + 1] = {id, at, unpack(fields)}
  end
  if #answer - 4 == limit or read > TEXTS then
    answer[4] = 1
    break
  end
end
return answer
