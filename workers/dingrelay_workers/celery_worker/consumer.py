"""Celery's consumer, made to outlive any message and any loss of its connection."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import consumer
from structlog.stdlib import get_logger

from dingrelay_tasks.kinds import TASK_PREFIX
from dingrelay_workers.celery_worker.task import JobTask, NewerKindTask
from dingrelay_workers.store.wakeup import is_wakeup

EVENTS_PAUSE = 0.2
"""Seconds for which events are collected: Flower needs no single ones."""
MOST_EVENTS = 10_000
"""Events that are collected at most. Celery would send every 24 itself, from the jobs' loop."""

RECONNECT_PAUSE = 2
"""Seconds between two tries to reach the broker, at most."""
REFUSAL_PAUSE = 1.0
"""Seconds before a broker that refused, being read-only for instance, is asked again."""

log = get_logger("dingrelay.worker")


class Consumer(consumer.Consumer):  # type: ignore[misc]  # celery ships no types
    """Refuses what Celery can't read, and gets over what its broken connections still raise."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Without the queues for delayed messages, of which we publish none."""

        default_steps = [  # noqa: RUF012 - as Celery has it
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if not step.endswith(":DelayedDelivery")
        ]

    app: Any
    event_dispatcher: Any
    strategies: Mapping[str, object]
    _flush_awaited = False

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """What is called with each message.

        A body of another shape than Celery's, or a header of another type, would end the worker
        and, since the broker delivers the message again, each worker after it; or it would end its
        thread and keep its place in the worker for ever.
        """
        handle = super().create_task_handler(*args, **kwargs)
        if self.event_dispatcher:
            self.event_dispatcher.buffer_limit = MOST_EVENTS
        for task in self.app.tasks.values():
            if isinstance(task, JobTask):
                task.runtime.events.send_through(self.event_dispatcher)

        def handle_or_refuse(message: Any) -> None:
            try:
                _check(message.payload)
                if _is_of_newer_kind(message.headers, self.strategies):
                    task = message.headers["task"]
                    # Celery shows it by its shadow.
                    message.headers |= {"shadow": task, "task": NewerKindTask.name}
                handle(message)
            except Exception as error:
                # On Redis a KeyError counts as a lost connection; here it is a missing header.
                if isinstance(error, self.connection_errors) and not isinstance(error, KeyError):
                    raise
                self._refuse(message, error)

        return handle_or_refuse

    def ensure_connected(self, conn: Any) -> Any:
        """A connection to the broker, sooner or later.

        Celery would wait longer after each failure, up to 30 s after the broker is back.
        """
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1, interval_step=1, interval_max=RECONNECT_PAUSE
        )
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of a connection that broke, or over which the broker refused to serve us.

        kombu closes its channel twice. Where the first time fails at the broken socket, the second
        misses what the first has taken apart, and that error would end the worker.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - nothing is left of the connection to use
            log.warning("connection_not_closed", reason=type(error).__name__)
        if not isinstance(exc, self.connection_errors):
            # It answers, so the next connection would be made, and refused, at once.
            time.sleep(REFUSAL_PAUSE)

    def call_soon_ack(self, acknowledge: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Acknowledge or reject a message, in the consumer's thread.

        The channel of a job that ran while the connection broke may be beyond use. Its message
        comes again some time and finds that the job has ended.
        """

        def acknowledge_or_leave(*args: Any, **kwargs: Any) -> None:
            try:
                acknowledge(*args, **kwargs)
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001 - whatever such a channel raises
                log.warning("not_acknowledged", reason=type(error).__name__)

        return super().call_soon_ack(acknowledge_or_leave, *args, **kwargs)

    def on_send_event_buffered(self) -> None:
        """An event was collected; from any thread."""
        if self.hub and not self._flush_awaited:
            self._flush_awaited = True
            self.hub.call_soon(self.hub.call_later, EVENTS_PAUSE, self._flush_events)

    def _flush_events(self) -> None:
        self._flush_awaited = False
        super()._flush_events()

    def shutdown(self) -> None:
        """The worker stops: the last events are sent too."""
        self._flush_events()
        super().shutdown()

    def _refuse(self, message: Any, error: Exception) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {}
        log.error(
            "message_refused",
            id=ascii(headers.get("id")),
            task=ascii(headers.get("task")),
            reason=type(error).__name__,
        )
        message.reject_log_error(log, self.connection_errors)


def _is_of_newer_kind(headers: Any, known: Mapping[str, object]) -> bool:
    """Whether a message wakes a job of a kind of which no task here is."""
    if not is_wakeup(headers):
        return False
    name = headers.get("task")
    return isinstance(name, str) and name.startswith(TASK_PREFIX) and name not in known


def _check(payload: object) -> None:
    """Let nothing pass that Celery would unpack later and find wrong there.

    Raises:
        InvalidTaskError: the body is not ``[args, kwargs, embed]``.
    """
    match payload:
        case dict():  # the first version of Celery's protocol, which it checks itself
            return
        case [list(), dict(), dict() | None]:
            return
        case _:
            raise InvalidTaskError("the body is not [args, kwargs, embed]")
