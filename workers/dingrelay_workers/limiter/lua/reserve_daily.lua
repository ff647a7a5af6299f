-- Reserve the day's silent limits of work notifications for one call: to users, to departments, or to everyone.
-- Answers {'ok', whether a department may have it, verdict per user, per department or for everyone}: 0 admitted,
-- 1 has this content already, 2 the day's most is reached. Or {'lost'}: the job is no longer this owner's,
-- {'another day', now}, {'wait', ms} around midnight, or {'busy'}: another job's call to one of them may just be
-- leaving. Then nothing is reserved.
-- People admitted for this job before are admitted again and counted once. Reservations of another job
-- that does not run go to this one: that one reserves again before it calls.

local DAY = 86400000   -- ms

local state, before = owned(record, owner, fence, 'reserved')
if state ~= 'running' then return {'lost'} end
local at = time_ms or now
if at < began or at >= began + DAY then return {'another day', at} end
if at >= leaves_until then return {'wait', began + DAY - at} end

local keys_of_day = {users = users_today, departments = departments_today, everyone = everyone_today}
local names = table.concat(recipients, ',')
local reserved = reservation(step, keys_of_day[to], to == 'users' and received or '', names)
-- The run before has reserved something else: for the step after this one, and was killed before its call; or
-- on another day; or for a user that is unreachable now.
if before and before ~= reserved then give_back(record, job) end

local function for_users()
  local everyone_has_it, departments, cap = false, 0, most
  if redis.call('EXISTS', everyone_today, departments_today) > 0 then
    local sends = redis.call('HGETALL', everyone_today)
    for i = 1, #sends, 2 do
      local stands = standing(JOB .. sends[i], '')
      if stands ~= 'free' then cap = cap - 1 end
      if sends[i + 1] == content then
        if stands == 'runs' and not anyway then return {'busy'} end
        everyone_has_it = everyone_has_it or (stands == 'sent' and not anyway)
      end
    end
    sends = redis.call('HGETALL', departments_today)
    for i = 1, #sends, 2 do
      if sends[i + 1] ~= job and standing(JOB .. sends[i + 1], sends[i]) ~= 'free' then
        departments = 1
      end
    end
  end

  local verdicts, reserved_users, gets, fresh = {}, {}, {}, {}
  local holders = redis.call('HMGET', users_today, unpack(recipients))
  for i, user in ipairs(recipients) do
    local verdict, holder = 0, holders[i]
    local stands = holder and holder ~= job and standing(JOB .. holder, user)
    if holder == job then
      reserved_users[#reserved_users + 1] = user
      if everyone_has_it then verdict = 1 end
    elseif stands == 'runs' and not anyway then
      return {'busy'}
    elseif stands == 'sent' or everyone_has_it then
      verdict = 1
    elseif stands == 'free' then
      gets[#gets + 1], gets[#gets + 2] = user, job
    elseif not stands and redis.call('SISMEMBER', had_by(received, content, user)) == 1 then
      verdict = 1
    elseif not stands then
      local key, digest = counted(received, user)
      if not anyway and tonumber(redis.call('HGET', key, digest) or 0) >= cap then
        verdict = 2
      else
        gets[#gets + 1], gets[#gets + 2] = user, job
        fresh[#fresh + 1], fresh[#fresh + 2] = key, digest
      end
    end
    verdicts[#verdicts + 1] = anyway and 0 or verdict
  end

  if everyone_has_it then
    for _, user in ipairs(reserved_users) do forget(users_today, received, user) end
  end
  if #gets > 0 then redis.call('HSET', users_today, unpack(gets)) end
  for i = 1, #fresh, 2 do
    -- From the first one on: the key is a day's, and lives longer than that.
    if redis.call('HINCRBY', fresh[i], fresh[i + 1], 1) == 1 then redis.call('PEXPIRE', fresh[i], ttl, 'NX') end
  end
  if #reserved_users + #gets > 0 then redis.call('PEXPIRE', users_today, ttl) end
  if anyway or #reserved_users + #gets > 0 then redis.call('HSET', record, 'reserved', reserved) end
  return {'ok', departments, unpack(verdicts)}
end

local function for_departments()
  local verdicts, gets = {'ok', 0}, {}
  for _, department in ipairs(recipients) do
    local holder, stands = redis.call('HGET', departments_today, department), 'free'
    if holder and holder ~= job then stands = standing(JOB .. holder, department) end
    if stands == 'runs' and not anyway then return {'busy'} end
    if stands == 'free' then gets[#gets + 1], gets[#gets + 2] = department, job end
    verdicts[#verdicts + 1] = (stands == 'sent' and not anyway) and 1 or 0
  end
  if #gets > 0 then
    redis.call('HSET', departments_today, unpack(gets))
    redis.call('PEXPIRE', departments_today, ttl)
  end
  redis.call('HSET', record, 'reserved', reserved)
  return verdicts
end

local function for_everyone()
  local sent, coming, free = 0, 0, {}
  local sends = redis.call('HGETALL', everyone_today)
  for i = 1, #sends, 2 do
    if sends[i] ~= job then
      local stands = standing(JOB .. sends[i], '')
      if sends[i + 1] == content and not anyway then
        if stands == 'sent' then return {'ok', 0, 1} end
        if stands == 'runs' then return {'busy'} end
      end
      if stands == 'sent' then
        sent = sent + 1
      elseif stands == 'runs' then
        coming = coming + 1
      else
        free[#free + 1] = sends[i]
      end
    end
  end
  if not anyway then
    if sent >= most then return {'ok', 0, 2} end
    if sent + coming >= most then return {'busy'} end
  end

  -- Jobs that do not run ask again before they call.
  if #free > 0 then redis.call('HDEL', everyone_today, unpack(free)) end
  redis.call('HSET', everyone_today, job, content)
  redis.call('PEXPIRE', everyone_today, ttl)
  redis.call('HSET', record, 'reserved', reserved)
  return {'ok', 0, 0}
end

if to == 'users' then return for_users() end
if to == 'departments' then return for_departments() end
return for_everyone()
