-- Records of jobs that have ended, as far as subscribers are told of them.
-- KEYS: records
-- ARGV: longest value (bytes), then for each record 1 to read what it asks for, too
-- Answers for each record names and values in turn. What is longer has an empty name before its own;
-- nothing where there is no record.
local longest = tonumber(ARGV[1])
local answer = {}
for index, record in ipairs(KEYS) do
  local fields = {}
  for _, name in ipairs(redis.call('HKEYS', record)) do
    if name ~= 'payload' or ARGV[index + 1] == '1' then
      if redis.call('HSTRLEN', record, name) > longest then
        fields[#fields + 1] = ''
        fields[#fields + 1] = name
      else
        fields[#fields + 1] = name
        fields[#fields + 1] = redis.call('HGET', record, name)
      end
    end
  end
  answer[index] = fields
end
return answer
