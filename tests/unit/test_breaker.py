"""The breaker before a Redis that is away: who tries it, and when."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_producers.store import breaker
from dingrelay_producers.store.breaker import Breaker


class Server:
    """One that may be away, asked through a breaker."""

    def __init__(self, guarded: Breaker) -> None:
        self._breaker = guarded
        self.away = False
        self.tries = 0

    def ask(self) -> bool:
        """Whether it answers."""
        try:
            self._breaker.check()
        except RedisConnectionError:
            return False
        self.tries += 1
        if self.away:
            self._breaker.failed()
        else:
            self._breaker.answered()
        return not self.away


def test_a_server_that_is_away_is_tried_by_one_caller_a_pause() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    server = Server(guarded)
    assert server.ask()
    server.away = True
    assert not any(server.ask() for _ in range(5))
    assert not guarded.is_open  # what fails at the same moment is one failure
    now[0] += breaker.APART
    assert not any(server.ask() for _ in range(5))
    assert (server.tries, guarded.is_open) == (7, True)
    for pause in (1.0, 2.0, 4.0, 4.0):
        tries = server.tries
        now[0] += pause - 0.01
        assert not server.ask()
        assert server.tries == tries
        now[0] += 0.01
        assert not any(server.ask() for _ in range(5))
        assert server.tries == tries + 1
    server.away = False
    now[0] += breaker.LONGEST_PAUSE
    assert all(server.ask() for _ in range(5))
    assert not guarded.is_open


def test_failures_with_answers_between_them_are_no_outage() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    server = Server(guarded)
    for away in (True, False) * 5:
        now[0] += 1
        server.away = away
        assert server.ask() is not away
    assert not guarded.is_open


def test_failures_that_are_far_apart_are_no_outage() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    for _ in range(5):
        guarded.failed()
        now[0] += breaker.TOGETHER + 1
    assert not guarded.is_open


def test_a_try_without_a_report_does_not_keep_others_out_for_ever() -> None:
    now = [0.0]
    guarded = Breaker(lambda: now[0])
    for _ in range(breaker.NEEDED):
        now[0] += breaker.APART
        guarded.failed()
    assert guarded.is_open
    now[0] += breaker.PAUSE
    guarded.check()
    with pytest.raises(RedisConnectionError):
        guarded.check()
    guarded.left()
    now[0] += breaker.PAUSE
    guarded.check()
    now[0] += breaker.TRIAL
    guarded.check()
