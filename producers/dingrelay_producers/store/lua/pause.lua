-- Pause a lane, or a sender in it; another pause of the same name is over by that. Answers the end and since when,
-- or late | far where the end is no moment of the time for which a pause may last.
local until_then = ends or now + usual
if until_then <= now then return 'late' end
if until_then > now + longest then return 'far' end
local present = redis.call('HGET', PAUSES, name)
local since = present and tonumber(string.match(present, '^%d+')) > now and string.match(present, ' (%d+)')
since = since or string.format('%.0f', now)
redis.call('HSET', PAUSES, name, string.format('%.0f', until_then) .. ' ' .. since .. ' ' .. person)
redis.call('PEXPIRE', PAUSES, HELD_TTL)
return {until_then, tonumber(since)}
