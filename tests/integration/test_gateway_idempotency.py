"""``Idempotency-Key`` where connections break and requests meet."""

from collections.abc import Iterator

import pytest
from redis import Redis

from dingrelay_producers.store import scripts
from dingrelay_producers.store.scripts import Script

ENTRY = "dingrelay:idempotency:drk_crm000000000:x"
BEGIN = Script.load("dingrelay_producers.store", "once_begin")


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        yield redis


def begin(redis: Redis, digest: str, attempt: str) -> list[bytes]:
    answer: list[bytes] = scripts.run(redis, BEGIN.call([ENTRY], [digest, attempt, 3_000]))
    return answer


def test_a_request_that_lost_the_answer_of_redis_has_begun(redis: Redis) -> None:
    """The connection's second try is not told that somebody else is at it, which is itself."""
    assert begin(redis, "request", "mine") == [b"begun"]
    assert begin(redis, "request", "mine") == [b"begun"]
    assert begin(redis, "request", "another's") == [b"under way"]
    assert begin(redis, "another", "another's") == [b"other"]
