"""What a broken connection raises ends no worker."""

from collections.abc import Callable
from typing import Any

import pytest
from celery.worker import consumer as celery_consumer

from dingrelay_workers.celery_worker.consumer import Consumer


@pytest.fixture
def consumer() -> Consumer:
    """A consumer on no broker."""
    consumer = Consumer.__new__(Consumer)
    consumer.connection_errors = (OSError,)
    consumer.hub = None
    return consumer


@pytest.fixture
def immediate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery calls at once, as its event loop would a little later."""

    def call(_: Any, callback: Callable[..., Any], *args: Any) -> None:
        callback(*args)

    monkeypatch.setattr(celery_consumer.Consumer, "call_soon_ack", call)


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_a_connection_that_cannot_be_closed_is_left(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = failing(AttributeError("'NoneType' object has no attribute 'hostname'"))
    monkeypatch.setattr(celery_consumer.Consumer, "on_connection_error_after_connected", broken)
    consumer.on_connection_error_after_connected(OSError())


def test_an_acknowledgement_on_a_channel_beyond_use_is_left(
    consumer: Consumer, immediate: None
) -> None:
    consumer.call_soon_ack(failing(AttributeError()), "logger", (OSError,))


def test_a_connection_lost_by_an_acknowledgement_is_made_again(
    consumer: Consumer, immediate: None
) -> None:
    with pytest.raises(OSError, match="reset"):
        consumer.call_soon_ack(failing(OSError("reset")), "logger", (OSError,))


class Hub:
    """Celery's event loop, by hand."""

    def __init__(self) -> None:
        self.soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.later.append((delay, callback))


def test_events_are_sent_together(consumer: Consumer) -> None:
    sent: list[None] = []

    class GatedDispatcher:
        def flush(self) -> None:
            sent.append(None)

    hub = Hub()
    consumer.hub = hub
    consumer.event_dispatcher = GatedDispatcher()
    for _ in range(100):
        consumer.on_send_event_buffered()
    ((callback, args),) = hub.soon
    callback(*args)
    ((delay, flush),) = hub.later
    assert 0 < delay < 1
    assert not sent
    flush()
    assert len(sent) == 1
    consumer.on_send_event_buffered()
    assert len(hub.soon) == 2, "what happens later is sent too"
