"""Errors of a broken or refusing connection end no worker, and are not logged again and again."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import CPendingDeprecationWarning
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
    broken.connection = SimpleNamespace(connection_errors=(OSError,))
    broken.on_connection_error_after_connected(error)
    assert bool(pauses) is waits


def test_a_lost_connection_warns_of_no_later_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery would do so each time: 80 times a minute while Redis refuses."""

    def warn(*_: Any) -> None:
        warnings.warn("In Celery 5.1 …", CPendingDeprecationWarning, stacklevel=2)

    monkeypatch.setattr(celery_consumer.Consumer, "on_connection_error_after_connected", warn)
    broken = Consumer.__new__(Consumer)
    broken.connection = SimpleNamespace(connection_errors=(OSError,))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        broken.on_connection_error_after_connected(OSError())
    assert seen == []
