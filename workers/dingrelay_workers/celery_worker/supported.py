"""Checks at the start what is used of Celery, kombu and redis-py beyond what they promise.

A release may rename any of it. Then a worker must not start, and lose messages in untested ways.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import requires, version
from inspect import isfunction
from typing import Any

from dingrelay_producers.settings import SettingsError

NAMES: Mapping[str, Sequence[str]] = {
    # transport.py
    "kombu.transport": ["TRANSPORT_ALIASES"],
    "kombu.transport.redis": [
        "Channel._brpop_read",
        "Channel._brpop_sent_at",
        "Channel.conn_or_acquire",
        "Channel._do_restore_message",
        "Channel._q_for_pri",
        "Channel()._queue_cycle",
        "Channel.active_queues",
        "Channel().connection",
        "Channel.priority_steps",
        "Channel.sep",
        "QoS.ack",
        "QoS.append",
        "QoS.can_consume",
        "QoS.pipe_or_acquire",
        "QoS.reject",
        "QoS.restore_unacked",
        "QoS.restore_visible",
        "SentinelChannel._brpop_read",
        "SentinelTransport.Channel",
        "Transport.Channel",
    ],
    "kombu.transport.virtual": [
        "Message()._raw",
        "QoS._delivered",
        "QoS.ack",
        "QoS.append",
        "QoS.can_consume_max_estimate",
        "Transport._deliver",
    ],
    "kombu.utils.encoding": ["bytes_to_str"],
    "kombu.utils.json": ["loads"],
    # consumer.py
    "celery.events.dispatcher": [
        "EventDispatcher().buffer_limit",
        "EventDispatcher.flush",
        "EventDispatcher.send",
    ],
    "celery.worker.consumer": [
        "Consumer.Blueprint",
        "Consumer._flush_events",
        "Consumer.call_soon_ack",
        "Consumer().connection_errors",
        "Consumer.create_task_handler",
        "Consumer.ensure_connected",
        "Consumer().event_dispatcher",
        "Consumer().hub",
        "Consumer.on_connection_error_after_connected",
        "Consumer.on_send_event_buffered",
        "Consumer.shutdown",
    ],
    "kombu": ["Connection.ensure_connection"],
    "kombu.asynchronous.hub": ["Hub.call_later", "Hub.call_soon"],
    # pool.py, job_request.py
    "billiard.einfo": ["ExceptionInfo"],
    "celery.concurrency.thread": [
        "ApplyResult",
        "TaskPool().limit",
        "TaskPool.on_apply",
        "TaskPool.on_stop",
    ],
    "celery.worker.request": [
        "Request.cancel",
        "Request.info",
        "Request.kwargsrepr",
        "Request.maybe_expire",
        "Request.on_accepted",
        "Request.on_failure",
        "Request.on_success",
        "Request.revoked",
        "Request.terminate",
    ],
    "celery.app.task": ["Task.Request", "Task.send_events"],
    "celery.worker.state": ["all_total_count", "total_count"],
    # remote_control.py
    "celery.worker.control": ["Panel.data", "revoke"],
    # confirms.py
    "amqp.channel": ["Channel.basic_publish", "Channel.confirm_select"],
    # connections.py
    "redis.asyncio.connection": [
        "AbstractConnection.pack_command",
        "BlockingConnectionPool",
        "parse_url",
    ],
    "redis.connection": ["HiredisRespSerializer.pack"],
}
"""Module → what is used of it: a name, ``Class.name``, or ``Class().name`` that its methods set."""

_PACKAGES = ("celery", "kombu", "redis")
_REQUIREMENT = re.compile(rf"({'|'.join(_PACKAGES)})(?:\[.*?\])?([^\w;-][^;]*)")


def check() -> None:
    """Look for all of it.

    Raises:
        SettingsError: names the first that is missing, and the versions that have it.
    """
    for module, names in NAMES.items():
        for name in names:
            if not _is_there(module, name):
                raise SettingsError(
                    f"{module}.{name} is missing from {', '.join(_installed())}; "
                    f"dingrelay {version('dingrelay')} runs with {', '.join(_wanted())}"
                )


def _is_there(module: str, name: str) -> bool:
    owner, _, last = name.rpartition(".")
    try:
        found: Any = import_module(module)
        if owner:
            found = getattr(found, owner.removesuffix("()"))
    except (ImportError, AttributeError):
        return False
    if owner.endswith("()"):
        return last in _set_by_methods(found)
    return hasattr(found, last)


def _set_by_methods(owner: type) -> Iterator[str]:
    """The attributes that the methods of a class speak of."""
    for kind in owner.__mro__:
        for value in vars(kind).values():
            if isfunction(value):
                yield from value.__code__.co_names


def _installed() -> list[str]:
    return [f"{package} {version(package)}" for package in _PACKAGES]


def _wanted() -> list[str]:
    """The required versions, without extras and markers."""
    found = map(_REQUIREMENT.match, requires("dingrelay") or ())
    return ["".join(match.groups()).strip() for match in found if match]
