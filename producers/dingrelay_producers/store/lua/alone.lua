-- A call that came alone: `call` is run for it. It is put behind a script whose calls may go together.
local answer = call(KEYS, ARGV)
if finish then finish() end
return answer
