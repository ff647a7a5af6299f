-- Redis 7.2 writes a whole number that ends in many zeros with an exponent (1.9e+12), which no reader of whole
-- numbers takes: once a day for a millisecond it is the time. It stands before every script.
local redis = redis
if not redis.VALKEY_VERSION_NUM and redis.REDIS_VERSION_NUM < 0x00070400 then
  local function exact(call)
    return function(...)
      local arguments = {...}
      for index, each in ipairs(arguments) do
        if type(each) == 'number' and each % 1 == 0 then arguments[index] = string.format('%.0f', each) end
      end
      return call(unpack(arguments))
    end
  end
  redis = setmetatable({call = exact(redis.call), pcall = exact(redis.pcall)}, {__index = redis})
end
