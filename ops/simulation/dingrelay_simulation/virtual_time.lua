-- Before each script: the time is the simulation's, and so is the end of each key (`valkey.py`).
local redis = (function()
  local server, micros = redis, nil
  local function now()
    if not micros then micros = server.call('PEXPIRETIME', '{simulation}now') end
    return micros
  end
  local function ms() return math.floor(now() / 1000) end
  local function noted(key, answer)
    local ends = server.call('PEXPIRETIME', key)
    if ends > 0 then server.call('ZADD', '{simulation}ends', ends, key) end
    return answer
  end
  local to = {PX = {'PXAT', 1, true}, EX = {'PXAT', 1000, true}, PXAT = {'PXAT', 1, false}, EXAT = {'PXAT', 1000, false}}
  local function with_end(run, name, key, ...)
    local parts, index = {...}, 1
    local timed = false
    while index <= #parts do
      local option = to[string.upper(tostring(parts[index]))]
      if option and (index > 1 or name == 'GETEX') then
        local value = math.floor(tonumber(parts[index + 1]) * option[2])
        parts[index] = option[1]
        parts[index + 1] = string.format('%d', option[3] and ms() + value or value)
        timed, index = true, index + 1
      end
      index = index + 1
    end
    local answer = run(name, key, unpack(parts))
    if timed then return noted(key, answer) end
    return answer
  end
  local function at(unit, relative)
    return function(run, _, key, value, ...)
      local moment = math.floor(tonumber(value) * unit) + (relative and ms() or 0)
      return noted(key, run('PEXPIREAT', key, string.format('%d', moment), ...))
    end
  end
  local function left(unit)
    return function(run, _, key)
      local ends = run('PEXPIRETIME', key)
      if ends < 0 then return ends end
      return math.floor((ends - ms()) / unit + 0.5)
    end
  end
  local timed = {
    TIME = function() return {string.format('%d', math.floor(now() / 1000000)), string.format('%d', now() % 1000000)} end,
    PEXPIRE = at(1, true), EXPIRE = at(1000, true), PEXPIREAT = at(1, false), EXPIREAT = at(1000, false),
    PTTL = left(1), TTL = left(1000), SET = with_end, GETEX = with_end,
    PSETEX = function(run, _, key, value, text) return with_end(run, 'SET', key, text, 'PX', value) end,
    INFO = function(run, name, ...)
      local history = server.call('GET', '{simulation}history')
      return (string.gsub(run(name, ...), 'master_replid:%x+', 'master_replid:' .. history))
    end,
    SETEX = function(run, _, key, value, text) return with_end(run, 'SET', key, text, 'EX', value) end,
    XADD = function(run, name, key, ...)
      local parts = {...}
      for index, part in ipairs(parts) do
        if part == '*' then
          parts[index] = string.format('%d', ms()) .. '-*'
          break
        end
      end
      return run(name, key, unpack(parts))
    end,
  }
  local function wrap(run)
    return function(name, ...)
      local ours = timed[name]
      if ours then return ours(run, name, ...) end
      return run(name, ...)
    end
  end
  return setmetatable({call = wrap(server.call), pcall = wrap(server.pcall)}, {__index = server})
end)()
