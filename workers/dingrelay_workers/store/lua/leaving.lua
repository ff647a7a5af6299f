-- How jobs that have ended leave the place of those that run, for the script that this is put before.

-- Their ids and queues, in turn.
local leaving = {}

-- Take them out, by one command for all: they should be there.
local function leave_running()
  local ids = {}
  for index = 1, #leaving, 2 do ids[#ids + 1] = leaving[index] end
  if leave_place(RUNNING, unpack(ids)) == #ids then return end
  for index = 1, #leaving, 2 do take_out(leaving[index], leaving[index + 1]) end
end

