-- Leave a job of a kind that this release does not know to a worker of a newer one.
-- KEYS: record
-- ARGV: id
leave(KEYS[1], ARGV[1])
