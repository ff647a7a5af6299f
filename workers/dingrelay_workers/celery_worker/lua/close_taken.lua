-- Puts back all that a worker has taken, which closes.
-- KEYS: its marks, its lists to which waits moved messages.
-- ARGV: pairs: a queue, a message that has no mark; the next of its queue last.
-- The registry keeps its lists: a message may still be moved there for a client that has just gone.
for place = 1, #KEYS do put_back(KEYS[place]) end
for pair = 1, #ARGV, 2 do redis.call('RPUSH', ARGV[pair], ARGV[pair + 1]) end
