"""Services of the nouns in SQL for a command, on connections of its own: its event loop lives no longer than the command."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dingrelay_producers.settings import Settings
from dingrelay_workers.database.schema import opened
from dingrelay_workers.noun import made_of
from dingrelay_workers.store.connections import impatient_redis

if TYPE_CHECKING:
    from dingrelay_producers.client.verbs import Verb

TIMEOUT = 30.0
"""Seconds for the database; another process may be writing to an SQLite file."""
_Service = TypeVar("_Service")
_Document = TypeVar("_Document")


def ask(
    kind: Callable[..., _Service], question: Callable[[_Service], Awaitable[_Document]]
) -> _Document:
    """The answer of a service.

    Args:
        kind: its class, which is made of those of `settings`, `database`, `redis` and `timeout` that it takes.
        question: a call of one of its methods.

    Raises:
        ServiceUnavailable: the database or Redis can't be used.
    """
    return asyncio.run(_ask(kind, question))


def carry_out(kind: Callable[..., Any], verb: "Verb", *arguments: Any) -> Any:
    """The document of a verb of a service, as `ask`."""
    return ask(kind, lambda service: getattr(service, verb.name)(*arguments))


async def _ask(
    kind: Callable[..., _Service], question: Callable[[_Service], Awaitable[_Document]]
) -> _Document:
    settings = Settings.load()
    async with opened(settings) as database, impatient_redis(settings) as redis:
        service = made_of(kind, settings=settings, database=database, redis=redis, timeout=TIMEOUT)
        return await question(service)
