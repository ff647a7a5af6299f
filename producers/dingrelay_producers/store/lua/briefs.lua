-- The latest jobs of an index that fit, with what lists are narrowed by and counted by.
--
-- KEYS: index
-- ARGV: jobs to look at; jobs to find; the score and the id behind which it begins, '' for the latest; moments (ms)
-- from which on and before which a job was accepted; two texts that a job's payload or addresses hold, '' for none;
-- then the values that state, kind, app, sender, lane and code may have, each behind a newline, '' for any
--
-- Answers how many jobs it looked at, the last of them and its score; then for each that fits its id, its score and
-- these six fields and its summary. A job without a record has none of them, and fits.

local index, most, wanted, first, behind = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local since, before, holds = tonumber(ARGV[5]), tonumber(ARGV[6]), {ARGV[7], ARGV[8]}
local CODE = 6

local allowed = {}
for field = 1, CODE do
  local values = ARGV[8 + field]
  if values ~= '' then
    allowed[field] = {}
    for value in string.gmatch(values, '\n([^\n]*)') do allowed[field][value] = true end
  end
end

local NAMES = {'state', 'kind', 'app', 'sender', 'lane', 'created', 'summary'}
if holds[1] ~= '' or holds[2] ~= '' then NAMES[8], NAMES[9] = 'payload', 'step:addresses' end

local function asks_for(fields, text)
  if text == '' then return true end
  return string.find(fields[8] or '', text, 1, true) or string.find(fields[9] or '', text, 1, true)
end

local function code_of(error)
  local known, found = pcall(cjson.decode, error)
  return known and type(found) == 'table' and type(found.code) == 'string' and found.code or ''
end

-- The six fields of a record that fits, and its summary.
local function fitting(record)
  local fields = redis.call('HMGET', record, unpack(NAMES))
  if not fields[1] then return {} end
  local created = tonumber(fields[6] or 0)
  -- A moment that can't be read is named where the record is read.
  if created and (created < since or created >= before) then return end
  if not (asks_for(fields, holds[1]) and asks_for(fields, holds[2])) then return end
  local found = {}
  for field = 1, CODE do
    local value = fields[field] or ''
    if field == CODE then value = code_of(redis.call('HGET', record, 'error') or '') end
    if allowed[field] and not allowed[field][value] then return end
    found[field] = value
  end
  found[CODE + 1] = fields[7] or ''
  return found
end

local rank = 0
if first ~= '' then
  local known = redis.call('ZSCORE', index, behind)
  if known and tonumber(known) == tonumber(first) then
    rank = redis.call('ZREVRANK', index, behind) + 1
  else
    rank = redis.call('ZCOUNT', index, '(' .. first, '+inf')
  end
end

local places, answer = redis.call('ZREVRANGE', index, rank, rank + most - 1, 'WITHSCORES'), {0, '', ''}
for place = 1, #places, 2 do
  local id, at = places[place], places[place + 1]
  answer[1], answer[2], answer[3] = answer[1] + 1, id, at
  local fields = fitting(JOB .. id)
  if fields then
    answer[#answer + 1] = {id, at, unpack(fields)}
    if #answer - 3 == wanted then break end
  end
end
return answer
