-- End a pause: whether there was one. The scheduler wakes the jobs that are held.
return redis.call('HDEL', PAUSES, name)
