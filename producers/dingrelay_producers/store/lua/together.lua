-- Calls that came at the same time, or one alone: `call` is run for each with its own KEYS and ARGV. It is put
-- behind a script whose calls may go together.
-- `all_keys` are those of all calls. `values` are of one alone what it has, of which the first is never empty; of several
-- an empty one, and for each call the number of its keys, of its arguments, and these.
-- Answers what one alone answers; or for each of several what that answers, or its error, which is no other's.
if values[1] ~= '' then
  local answer = call(all_keys, values)
  if finish then finish() end
  return answer
end

local answers, key, at = {}, 0, 2
while values[at] do
  local keys, arguments = {}, {}
  local key_count, size = tonumber(values[at]), tonumber(values[at + 1])
  for index = 1, key_count do keys[index] = all_keys[key + index] end
  for index = 1, size do arguments[index] = values[at + 1 + index] end
  key, at = key + key_count, at + 2 + size
  local succeeded, answer = pcall(call, keys, arguments)
  if not succeeded then
    -- Servers return errors as texts, or as tables.
    answer = {err = type(answer) == 'table' and answer.err or tostring(answer)}
    -- Nothing was written. Only the error of a whole run has a connection look for the new primary.
    if string.find(answer.err, 'READONLY', 1, true) == 1 then return answer end
  end
  answers[#answers + 1] = answer or false
end
if finish then finish() end
return answers
