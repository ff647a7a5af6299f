"""What a broken or refusing connection raises ends no worker."""

from typing import Any

import pytest
from celery.worker import consumer as celery_consumer

from dingrelay_workers.celery_worker import consumer
from dingrelay_workers.celery_worker.consumer import Consumer


@pytest.mark.parametrize(("error", "waits"), [(OSError(), False), (ValueError("READONLY"), True)])
def test_a_connection_that_cannot_be_closed_is_left(
    monkeypatch: pytest.MonkeyPatch, error: Exception, waits: bool
) -> None:
    def fail(*_: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")

    pauses: list[float] = []
    monkeypatch.setattr(celery_consumer.Consumer, "on_connection_error_after_connected", fail)
    monkeypatch.setattr(consumer, "sleep", pauses.append)
    broken = Consumer.__new__(Consumer)
    broken.connection_errors = (OSError,)
    broken.on_connection_error_after_connected(error)
    assert bool(pauses) is waits
