-- Records of jobs that have ended, as far as subscribers are told of them.
-- KEYS: records
-- ARGV: longest value (bytes), then for each record 1 to read what it asks for, too
-- Answers for each record names and values in turn. What is longer has an empty name before its own;
-- nothing where there is no record.
--
-- Names, states, times and counts are short by what they are, and read in one command. The others are
-- measured first: to ask for each field by itself would be half of all commands that a job costs.
local longest = tonumber(ARGV[1])
local SHORT = {}
for name in string.gmatch([[
  kind app lane queue digest summary v state created due woken batch_key recipients fence started owner
  lease called settled attempts throttles not_before expires sender parent bare cancel
]], '%S+') do SHORT[name] = true end

local answer = {}
for index, record in ipairs(KEYS) do
  local short, fields = {}, {}
  for _, name in ipairs(redis.call('HKEYS', record)) do
    if SHORT[name] then
      short[#short + 1] = name
    elseif name ~= 'payload' or ARGV[index + 1] == '1' then
      local fits = redis.call('HSTRLEN', record, name) <= longest
      fields[#fields + 1] = fits and name or ''
      fields[#fields + 1] = fits and redis.call('HGET', record, name) or name
    end
  end
  if #short > 0 then
    local values = redis.call('HMGET', record, unpack(short))
    for place, name in ipairs(short) do
      fields[#fields + 1] = name
      fields[#fields + 1] = values[place]
    end
  end
  answer[index] = fields
end
return answer
