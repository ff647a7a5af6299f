"""Everything that a Redis holds, as text that is searched for secrets."""

from collections.abc import Iterator

from redis import Redis


def records(redis: Redis) -> Iterator[tuple[str, str]]:
    """Each key with its value; not the tokens, which are the one secret that belongs there."""
    for key in redis.scan_iter("*"):
        if not key.startswith(b"dingrelay:token:"):
            yield key.decode(errors="replace"), repr(_value(redis, key))


def _value(redis: Redis, key: bytes) -> object:
    match redis.type(key):
        case b"hash":
            return redis.hgetall(key)
        case b"zset":
            return redis.zrange(key, 0, -1)
        case b"list":
            return redis.lrange(key, 0, -1)
        case b"set":
            return redis.smembers(key)
        case b"stream":
            return redis.xrange(key)
        case _:
            return redis.get(key)
