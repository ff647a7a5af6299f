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
    # transport.py, sentinel_transport.py
    "kombu.transport": [
        "TRANSPORT_ALIASES",
    ],
    "kombu.transport.redis": [
        "Channel.active_queues",
        "Channel.pool",
        "SentinelChannel._connparams",
        "SentinelChannel._sentinel_managed_pool",
        "Transport.on_readable",
    ],
    "kombu.transport.virtual": [
        "Transport.on_message_ready",
    ],
    "redis.connection": [
        "Connection()._sock",
    ],
    # consumer.py
    "celery.events.dispatcher": [
        "EventDispatcher().buffer_limit",
    ],
    "celery.worker.consumer": [
        "Consumer.Blueprint",
        "Consumer.create_task_handler",
        "Consumer.ensure_connected",
        "Consumer.on_decode_error",
        "Consumer.on_invalid_task",
        "Consumer.on_unknown_message",
        "Consumer.on_unknown_task",
        "Consumer.on_connection_error_after_connected",
        "Consumer().strategies",
    ],
    # pool.py
    "celery.concurrency.thread": [
        "TaskPool().limit",
        "TaskPool.on_apply",
        "TaskPool.on_stop",
    ],
    "celery.worker.request": [
        "Request.cancel",
        "Request.info",
        "Request.kwargsrepr",
        "Request.revoked",
        "Request.terminate",
    ],
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
                    f"dingrelay {version('dingrelay')} runs with {', '.join(_required_versions())}"
                )


def _is_there(module: str, name: str) -> bool:
    owner, _, last = name.rpartition(".")
    try:
        owner_object: Any = import_module(module)
        if owner:
            owner_object = getattr(owner_object, owner.removesuffix("()"))
    except (ImportError, AttributeError):
        return False
    if owner.endswith("()"):
        return last in _set_by_methods(owner_object)
    return hasattr(owner_object, last)


def _set_by_methods(owner: type) -> Iterator[str]:
    """The attributes that the methods of a class speak of."""
    for kind in owner.__mro__:
        for value in vars(kind).values():
            if isfunction(value):
                yield from value.__code__.co_names


def _installed() -> list[str]:
    return [f"{package} {version(package)}" for package in _PACKAGES]


def _required_versions() -> list[str]:
    """The required versions, without extras and markers."""
    matches = map(_REQUIREMENT.match, requires("dingrelay") or ())
    return ["".join(match.groups()).strip() for match in matches if match]
