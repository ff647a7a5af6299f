-- Reading some fields of a record, for the scripts that this is put before.

local AT_ONCE = 1000  -- fields: Lua passes up to 8,000 values, and an event of many people has a step for each

-- Append to the answer the names of these fields of a record and their values in turn.
local function add_fields(answer, record, names)
  for first = 1, #names, AT_ONCE do
    local some = {unpack(names, first, math.min(first + AT_ONCE - 1, #names))}
    local values = redis.call('HMGET', record, unpack(some))
    for place, name in ipairs(some) do
      answer[#answer + 1], answer[#answer + 2] = name, values[place]
    end
  end
end

