-- Puts back all that a worker has taken, which closes: what stands in its places, and messages that have no mark, the
-- next of its queue last.
-- The registry keeps its lists: a message may still be moved there for a client that has just gone.
for _, place in ipairs(places) do put_back(place) end
for _, message in ipairs(unmarked) do redis.call('RPUSH', message.queue, message.text) end
