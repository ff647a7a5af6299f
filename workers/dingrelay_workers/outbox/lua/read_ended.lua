-- Records of jobs that have ended, as far as subscribers are told of them.
-- KEYS: records
-- ARGV: longest value (bytes), then for each record 1 to read what it asks for, too
-- Answers for each record names and values in turn. What is longer has an empty name before its own;
-- nothing where there is no record.
--
-- Names, states, times and counts are short by what they are. The others are measured first: to ask for
-- each field by itself would be half of all commands that a job costs.
local longest = tonumber(ARGV[1])
local SHORT = {}
for name in string.gmatch([[
  kind app lane queue digest summary v state created due woken batch_key recipients fence started owner
  lease called settled attempts throttles not_before expires sender parent bare cancel
]], '%S+') do SHORT[name] = true end

local answer = {}
for index, record in ipairs(KEYS) do
  local fields, names = {}, {}
  for _, name in ipairs(redis.call('HKEYS', record)) do
    if SHORT[name] then
      names[#names + 1] = name
    elseif name ~= 'payload' or ARGV[index + 1] == '1' then
      if redis.call('HSTRLEN', record, name) <= longest then
        names[#names + 1] = name
      else
        fields[#fields + 1], fields[#fields + 2] = '', name
      end
    end
  end
  add_fields(fields, record, names)
  answer[index] = fields
end
return answer
