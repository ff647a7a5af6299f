-- Delete the records of jobs that are settled elsewhere.
-- Answers 1, or 0 if the lease is another's: then nothing is deleted.
if redis.call('GET', lease) ~= holder then return 0 end
for _, job in ipairs(jobs) do
  local record = JOB .. job
  take_out(job, redis.call('HGET', record, 'queue'))
  let_go(record, job)
  redis.call('DEL', record)
  redis.call('ZREM', recent, job)
  redis.call('ZREM', dead, job)
end
redis.call('SET', settled, now, 'PX', settled_ttl)
return 1
