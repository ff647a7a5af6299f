"""Work of the fleet in each of the last minutes: counted in each process, which adds it up in Redis now and then.

So no message costs a round trip more. A process that dies loses what it has counted since its last report.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.store import clock, keys

SHOWN = 15
"""Minutes that are shown."""


class Minutes:
    """Counts of one process that are not reported yet."""

    def __init__(self) -> None:
        self._counted: Counter[tuple[int, str]] = Counter()

    def count(self, name: str, number: int = 1) -> None:
        """Note so many of something in this minute."""
        self._counted[_present(), name] += number

    async def report(self, redis: Redis) -> None:
        """Add it to what the fleet has counted.

        Raises:
            RedisError: Redis can't be reached; it is reported the next time.
        """
        oldest = _present() - SHOWN
        counted = {
            count_key: number
            for count_key, number in self._counted.items()
            if count_key[0] > oldest
        }
        self._counted = Counter()
        try:
            async with redis.pipeline(transaction=True) as pipe:
                for (minute, name), number in counted.items():
                    pipe.hincrby(keys.minute(minute), name, number)
                for minute in {minute for minute, _ in counted}:
                    pipe.pexpire(keys.minute(minute), keys.MINUTE_TTL_MS)
                await pipe.execute()
        except (RedisError, OSError):
            self._counted.update(counted)
            raise


MINUTES = Minutes()
"""Counts of this process: cost under a rule by the key of its bucket, and the names of the functions below."""


def worker(name: str) -> str:
    """Jobs that a worker ran."""
    return f"worker:{name}"


def endpoint(name: str) -> str:
    """Notices that an endpoint of webhooks accepted."""
    return f"webhook:{name}"


async def read(redis: Redis, names: Sequence[str]) -> Mapping[str, list[int]]:
    """Name → how many there were in each of the last minutes, the present one last."""
    now = _present()
    async with redis.pipeline(transaction=False) as pipe:
        for minute in range(now - SHOWN + 1, now + 1) if names else ():
            pipe.hmget(keys.minute(minute), names)
        rows = await pipe.execute()
    return {name: [int(row[at] or 0) for row in rows] for at, name in enumerate(names)}


async def total(redis: Redis, names: Sequence[str], minutes: Iterable[int]) -> int:
    """All of these in these minutes since 1970, as far as Redis still has them."""
    async with redis.pipeline(transaction=False) as pipe:
        for minute in minutes if names else ():
            pipe.hmget(keys.minute(minute), names)
        rows = await pipe.execute()
    return sum(int(count or 0) for row in rows for count in row)


def _present() -> int:
    return int(clock.now().timestamp() // 60)
