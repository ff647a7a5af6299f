-- A cell says which apps its workers serve: each for as long as they go on saying so.
-- KEYS: apps
-- ARGV: cell, ttl (ms), digest of an app ...
-- Answers {digest, cell, ...} of those that another cell serves still.
local apps, cell, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = {}
for place = 3, #ARGV do
    local app = ARGV[place]
    local known = redis.call('HGET', apps, app)
    local owner, ends
    if known then
        owner, ends = string.match(known, '^(%S+) (%d+)$')
    end
    if owner and owner ~= cell and tonumber(ends) > now then
        taken[#taken + 1] = app
        taken[#taken + 1] = owner
    else
        redis.call('HSET', apps, app, cell .. ' ' .. string.format('%.0f', now + ttl))
    end
end
redis.call('PEXPIRE', apps, ttl)
return taken
