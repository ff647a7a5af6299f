-- A request with an Idempotency-Key: whether it is the first, a repetition or another one, and how it goes on.
-- KEYS: entry
-- ARGV: name of this attempt, how it stands (begun | renewed | refused | failed | answered), then
--       begun: digest of the request, its lease, how long the entry lives; renewed: its lease (times in ms);
--       answered: status, headers, body, and the people that it names (JSON)
-- Answers an attempt that has begun {'begun', name of the first attempt}, from which follow the ids of what the request
-- makes; {'under way'}, {'other'}, or {'done', name of the first attempt, status, headers, body}. Another one 1,
-- or 0 if the key is another attempt's by now.
local entry, attempt, verb = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known_digest, first, owner, lease_end, status, headers, body = unpack(
  redis.call('HMGET', entry, 'digest', 'first', 'attempt', 'until', 'status', 'headers', 'body'), 1, 7)

if verb == 'begun' then
  local digest, lease, life = ARGV[3], ARGV[4], ARGV[5]
  if not known_digest then
    redis.call('HSET', entry, 'digest', digest, 'first', attempt, 'attempt', attempt, 'until', now + lease)
    redis.call('PEXPIRE', entry, life)
    return {'begun', attempt}
  end
  if known_digest ~= digest then return {'other'} end
  if status then return {'done', first, status, headers, body} end
  -- An attempt that asks twice has lost the answer, with its connection.
  if owner ~= attempt and tonumber(lease_end) > now then return {'under way'} end
  redis.call('HSET', entry, 'attempt', attempt, 'until', now + lease)
  return {'begun', first}
end

if owner ~= attempt then return 0 end
if verb == 'answered' then
  redis.call('HSET', entry, 'status', ARGV[3], 'headers', ARGV[4], 'body', ARGV[5], 'people', ARGV[6])
elseif verb == 'renewed' then
  redis.call('HSET', entry, 'until', now + ARGV[3])
elseif verb == 'refused' and first == attempt then
  redis.call('DEL', entry)  -- nothing was made: the key may name a better request
else
  redis.call('HSET', entry, 'until', 0)
end
return 1
