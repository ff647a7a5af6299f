-- Have a job that waits, for whatever, not run before a moment.
-- Answers the state, newer if this release does not know how to, or nil if there is no such job. One that waits is
-- postponed, unless it need not run any more by then, which is answered with late, must not run by then as it is,
-- which is answered with early, or the moment is over.
local fields = redis.call('HMGET', record, 'state', 'queue', 'batch_key', 'expires', 'not_before', 'due', 'parked', 'waits_for', 'turn')
local state, queue, batch_key, expires = fields[1], fields[2], fields[3], tonumber(fields[4])
local earliest, due = tonumber(fields[5]) or 0, tonumber(fields[6]) or 0
-- Where it waits for its turn, or for the end of an outage, the moment at which it is due is a guess.
local is_guess = fields[7] or fields[8] and not waits_for_pause(fields[8])
if not is_guess then earliest = math.max(earliest, due) end
if not state then return nil end
if newer(record) then return 'newer' end
if not waits(state) then return state end
if moment <= now then return 'over' end
if expires and expires <= moment then return 'late' end
if moment < earliest then return 'early' end
if rehearsal then return state end

put_off(job, queue, batch_key, fields[9])
redis.call('HDEL', record, 'waiting', 'waits_for')
redis.call('HSET', record, 'not_before', moment)
wake_at(job, queue, moment)
return state
