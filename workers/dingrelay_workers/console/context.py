"""What the console holds, and what a request has found out on its way to a page."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_workers.console.forms import Forms
from dingrelay_workers.console.sessions import Session, Sessions
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.records import GatewayRecords

if TYPE_CHECKING:
    from dingrelay_workers.console.ways import SignInWay

SHARED_FOR = 2.0
"""Seconds."""

Value = TypeVar("Value")


class SharedReads:
    """Reads that serve all who ask within a moment: each tab that is left open asks every few seconds."""

    def __init__(self) -> None:
        self._reads: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}

    async def get(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """What `read` returns, or has returned for this key a moment ago."""
        now = asyncio.get_running_loop().time()
        self._reads = {name: each for name, each in self._reads.items() if now < each[0]}
        if key not in self._reads:
            self._reads[key] = now + SHARED_FOR, asyncio.create_task(read())
        value: Value = await asyncio.shield(self._reads[key][1])
        return value

    def forget(self) -> None:
        """Read everything again, since something has changed."""
        self._reads.clear()


@dataclass(frozen=True, slots=True)
class ConsoleContext:
    """Everything that the console holds.

    Attributes:
        records: of jobs; pages enqueue and change them.
        ways: through other sites, which sign people in.
        prefix: of every path behind a proxy, such as ``/dingrelay``; empty for none.
    """

    settings: Settings
    services: Services
    sessions: Sessions
    forms: Forms
    redis: Redis
    records: GatewayRecords
    prefix: str = ""
    ways: Mapping[str, "SignInWay"] = field(default_factory=dict[str, "SignInWay"])
    shared: SharedReads = field(default_factory=SharedReads)


CONTEXT: web.AppKey[ConsoleContext] = web.AppKey("console", ConsoleContext)
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)
"""Of a person who has signed in, for the frame of the page."""
NAMES: web.RequestKey[dict[str, str]] = web.RequestKey("names", dict)
"""Userid → name, of people on the page."""
SAID: web.RequestKey[str] = web.RequestKey("said", str)
"""What the form that led here has done, for the top of the page."""


def name_of(request: web.Request, user: str) -> str:
    """The name of a person that the page has looked up; the userid where the directories have none."""
    return request.get(NAMES, {}).get(user) or user
