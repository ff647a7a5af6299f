"""Celery's consumer, made to outlive any message and any loss of its connection."""

import warnings
from collections.abc import Mapping
from functools import partial
from time import sleep
from typing import Any

from celery.exceptions import CPendingDeprecationWarning, InvalidTaskError
from celery.worker import consumer
from structlog.stdlib import get_logger

from dingrelay_tasks.kinds import TASK_PREFIX
from dingrelay_workers.celery_worker.pool import JobTask, NewerKindTask
from dingrelay_workers.celery_worker.task_events import MOST_EVENTS
from dingrelay_workers.store.wakeup import ETA_HEADER, NOT_CARRIED_OUT_HEADER, is_wakeup

EVENTS_PAUSE = 0.2
"""Seconds for which events are collected: Flower needs no single ones."""
RECONNECT_PAUSE = 2
"""Seconds between two tries to reach the broker, at most."""
REFUSAL_PAUSE = 1.0
"""Seconds before a broker that refused, being read-only for instance, is asked again."""

NOT_CARRIED_OUT = {
    "callbacks": "link",
    "errbacks": "link_error",
    "chain": "chain",
    "chord": "chord",
}
"""Field of a message → Celery's name of what its client wants to follow."""

log = get_logger("dingrelay.worker")


class Consumer(consumer.Consumer):  # type: ignore[misc]  # celery ships no types
    """Refuses what Celery can't read, and is back soon after the broker is."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Without the queues for delayed messages, of which we publish none."""

        default_steps = [  # noqa: RUF012 - as Celery has it
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if not step.endswith(":DelayedDelivery")
        ]

    connected = False
    """Whether messages are taken from the broker; read by other threads."""
    app: Any
    connection: Any
    event_dispatcher: Any
    hub: Any
    strategies: Mapping[str, object]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """The handler of messages; made once for each connection to the broker.

        A body of another shape than Celery's, or a header of another type, would end the worker
        and, since the broker delivers the message again, each worker after it; or it would end its
        thread and keep its place in the worker for ever.
        """
        handle = super().create_task_handler(*args, **kwargs)
        self._send_events()
        self.connected = True
        connection_errors: tuple[type[Exception], ...] = self.connection.connection_errors

        def handle_or_refuse(message: Any) -> None:
            try:
                self._open(message)
            except Exception as error:  # noqa: BLE001 - nothing that a text can raise may end a worker
                self._refuse(message, error, connection_errors)
                return
            try:
                handle(message)
            except Exception as error:
                # On Redis a KeyError counts as a lost connection; here it is a missing header.
                if isinstance(error, connection_errors) and not isinstance(error, KeyError):
                    raise
                self._refuse(message, error, connection_errors)

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
        """Let go of a connection that broke, or over which the broker refused to serve us."""
        self.connected = False
        connection_errors = self.connection.connection_errors
        try:
            with warnings.catch_warnings():
                # Each time it would say what may change in Celery 6.
                warnings.simplefilter("ignore", CPendingDeprecationWarning)
                super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - nothing is left of the connection to use
            log.warning("connection_not_closed", reason=type(error).__name__)
        if not isinstance(exc, connection_errors):
            # It answers, so the next connection would be made, and refused, at once.
            sleep(REFUSAL_PAUSE)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Have a message refused that names no task.

        Celery would log what is in it, as below.

        Raises:
            InvalidTaskError: always.
        """
        raise InvalidTaskError("no task is named")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Have a message refused whose task there is not.

        Raises:
            KeyError: always.
        """
        raise exc

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Have a message refused with a header that makes no sense.

        Raises:
            Exception: what Celery found wrong.
        """
        raise exc

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Have a message refused that can't be decoded.

        Raises:
            Exception: what Celery found wrong.
        """
        raise exc

    def _send_events(self) -> None:
        """Send the events of runs over this connection, a few times a second."""
        if self.event_dispatcher:
            # Celery would publish every 24.
            self.event_dispatcher.buffer_limit = MOST_EVENTS
        for events in {
            task.runtime.events for task in self.app.tasks.values() if isinstance(task, JobTask)
        }:
            events.send_through(self.event_dispatcher)
            self.hub.call_repeatedly(EVENTS_PAUSE, events.flush)

    def _open(self, message: Any) -> None:
        """Look into a message, and leave to the job's record what Celery would keep in this worker's memory.

        Raises:
            Exception: whatever its text makes Python and Celery raise.
        """
        payload, headers = message.payload, message.headers
        _check_payload(payload)
        if _is_of_newer_kind(headers, self.strategies):
            # Celery shows it by its shadow.
            message.headers |= {"shadow": headers["task"], "task": NewerKindTask.name}
        elif not is_wakeup(headers):
            fields = payload if isinstance(payload, dict) else headers
            if isinstance(self.app.tasks.get(fields.get("task")), JobTask):
                _leave_to_record(fields, headers, payload)

    def _refuse(
        self, message: Any, error: Exception, connection_errors: tuple[type[Exception], ...]
    ) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {}
        log.error(
            "message_refused",
            id=ascii(headers.get("id")),
            task=ascii(headers.get("task")),
            reason=type(error).__name__,
        )
        message.reject_log_error(log, connection_errors)


def _leave_to_record(fields: dict[str, Any], headers: dict[str, Any], payload: Any) -> None:
    """Let a job's message carry its eta, and what is not carried out of it, under names that Celery does not know.

    Args:
        fields: of the message: its headers, or its body in the first version of Celery's protocol.
        headers: of the message.
        payload: its body.
    """
    embed = fields if payload is fields else payload[2] or {}
    names = [name for field, name in NOT_CARRIED_OUT.items() if embed.get(field)]
    record_headers = {
        ETA_HEADER: fields.get("eta"),
        NOT_CARRIED_OUT_HEADER: names[0] if names else None,
    }
    fields["eta"] = None
    fields |= record_headers
    headers |= record_headers


def _is_of_newer_kind(headers: Any, tasks: Mapping[str, object]) -> bool:
    """Whether a message wakes a job of a kind of which no task here is."""
    if not is_wakeup(headers):
        return False
    name = headers.get("task")
    return isinstance(name, str) and name.startswith(TASK_PREFIX) and name not in tasks


def _check_payload(payload: object) -> None:
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
