"""The watchdog hears of a signal in a thread of its own, and ends what does not end."""

import signal
import threading
from collections.abc import Iterator

import pytest

from dingrelay_workers.celery_worker.watchdog import Watchdog


class Watched:
    """A watchdog's actions."""

    def __init__(self, longest: float) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.watchdog = Watchdog(
            longest, begin=self.begun.set, running=lambda: 3, end=lambda _: self.ended.set()
        )
        self.watchdog.start()


@pytest.fixture
def ignored() -> Iterator[None]:
    """Signals reach Python and do nothing more."""
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_process_that_does_not_end_is_ended(ignored: None, number: signal.Signals) -> None:
    watched = Watched(0.05)
    signal.raise_signal(number)
    assert watched.begun.wait(5)
    assert watched.ended.wait(5)
    watched.watchdog.close()


def test_a_process_has_its_time(ignored: None) -> None:
    watched = Watched(60)
    signal.raise_signal(signal.SIGTERM)
    assert watched.begun.wait(5)
    watched.watchdog.close()
    assert not watched.ended.is_set()


def test_another_signal_ends_nothing(ignored: None) -> None:
    watched = Watched(0)
    signal.raise_signal(signal.SIGHUP)
    watched.watchdog.close()
    assert not watched.begun.is_set()


def test_a_worker_is_stopped_without_a_signal() -> None:
    watched = Watched(0)
    watched.watchdog.stop()
    assert watched.ended.wait(5)
    watched.watchdog.close()
