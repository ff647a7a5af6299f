"""What chaos takes for a set that grows."""

import pytest
from redis import Redis

from dingrelay_chaos.invariants.traces import MOST_RECENT, _keys
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import enqueue
from dingrelay_producers.store.scripts import run
from jobs import a_draft


@pytest.mark.parametrize(("more", "grows"), [(0, False), (MOST_RECENT, True)])
def test_jobs_that_were_not_trimmed_yet_are_no_growth(
    valkey_url: str, more: int, *, grows: bool
) -> None:
    with Redis.from_url(valkey_url) as redis:
        older = {f"old{number}": number for number in range(keys.RECENT_JOBS)}
        redis.zadd(keys.RECENT, older)
        redis.pexpire(keys.RECENT, keys.RECENT_TTL_MS)  # trimmed just now
        run(redis, enqueue(a_draft()))
        if more:
            redis.zadd(keys.RECENT, {f"more{number}": number for number in range(more)})
        assert bool([*_keys(redis)]) is grows
