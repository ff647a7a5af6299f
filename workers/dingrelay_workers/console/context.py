"""State of the console, and what a request has loaded for its page."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.client.verbs import Steps
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.console.declared import FormValues
from dingrelay_workers.console.sentences import FieldProblem
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http.records import GatewayRecords
from dingrelay_workers.http.steps import StepMaker
from dingrelay_workers.sessions.forms import Forms
from dingrelay_workers.sessions.sessions import Session, Sessions

if TYPE_CHECKING:
    from dingrelay_workers.console.ways import SignInWay

SHARED_FOR = 2.0
"""Seconds after which what pages share is read again."""
CHECKED_FOR, LONGEST_CHECK = 10.0, 120.0
"""Seconds for which a check is shown, with its time, and that one may take: it looks at each person of a broadcast."""
SOON = 0.02
"""Seconds that a page waits for a check before it says that it is being made."""

Value = TypeVar("Value")
Document = TypeVar("Document")


class SharedReads:
    """Reads that serve all who ask within a moment: each tab that is left open asks every few seconds.

    Args:
        kept: seconds for which the result of one is kept.
        longest: seconds after which one that has no result yet is made again: its connection may be dead.
    """

    def __init__(self, kept: float, longest: float) -> None:
        self._kept, self._longest = kept, longest
        self._reads: dict[Hashable, tuple[float, asyncio.Task[tuple[Any, float]]]] = {}

    async def get(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """The result of `read`, or a recent one for this key."""
        task = self._read(key, read)
        await asyncio.wait([task])
        return self._result(key, task)

    async def soon(
        self,
        key: Hashable,
        read: Callable[[], Coroutine[Any, Any, Value]],
        *,
        seconds: float = SOON,
    ) -> Value | None:
        """The same; None if that takes longer than a page may. It goes on, for the next request."""
        task = self._read(key, read)
        await asyncio.wait([task], timeout=seconds)
        return self._result(key, task) if task.done() else None

    def _result(self, key: Hashable, task: asyncio.Task[tuple[Value, float]]) -> Value:
        if task.exception():
            self.drop(key)  # it was learnt, and the next one may get further
        return task.result()[0]

    def _read(
        self, key: Hashable, read: Callable[[], Coroutine[Any, Any, Value]]
    ) -> asyncio.Task[tuple[Value, float]]:
        now = asyncio.get_running_loop().time

        def serves(began: float, task: asyncio.Task[tuple[Any, float]]) -> bool:
            if not task.done():
                return now() < began + self._longest
            ended = began + self._longest if task.exception() else task.result()[1]
            return now() < ended + self._kept

        async def timed() -> tuple[Value, float]:
            return await read(), now()

        self._reads = {
            name: read_task for name, read_task in self._reads.items() if serves(*read_task)
        }
        if key not in self._reads:
            self._reads[key] = now(), asyncio.create_task(timed())
        return self._reads[key][1]

    def drop(self, key: Hashable) -> None:
        """Read this again at its next use."""
        self._reads.pop(key, None)

    def forget(self) -> None:
        """Read everything again, since something has changed."""
        self._reads.clear()


@dataclass(frozen=True, slots=True)
class ConsoleContext:
    """Everything that the console holds.

    Attributes:
        records: of jobs; pages enqueue and change them.
        ways: through other sites, which sign people in.
        checks: of broadcasts; a form of another person does not end one.
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
    shared: SharedReads = field(default_factory=lambda: SharedReads(SHARED_FOR, SHARED_FOR))
    checks: SharedReads = field(default_factory=lambda: SharedReads(CHECKED_FOR, LONGEST_CHECK))

    @property
    def only_app(self) -> str:
        """The app that goes without saying; "" where there are several."""
        names = [*self.settings.apps] or [DEFAULT_APP]
        return names[0] if len(names) == 1 else ""

    async def carry_out(self, steps: Steps[Document]) -> Document:
        """Run the body of a verb whose steps are made; see `StepMaker.carry_out`."""
        service_of = self.services.of
        services = service_of(AuditService), service_of(HistoryService), service_of(ApprovalService)
        return await StepMaker(self.records, *services).carry_out(steps)


CONTEXT: web.AppKey[ConsoleContext] = web.AppKey("console", ConsoleContext)
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)
"""Session of the visitor, for the frame of the page."""


class RefusedForm(NamedTuple):
    """A form of which a field is wrong.

    Attributes:
        sent: what was typed.
        problems: field → what is wrong.
        page: path and query of the page that it stood on.
    """

    sent: FormValues
    problems: Mapping[str, FieldProblem]
    page: str


REFUSED: web.RequestKey[RefusedForm] = web.RequestKey("refused", RefusedForm)
"""The form that the page shows again."""
NAMES: web.RequestKey[dict[str, str]] = web.RequestKey("names", dict)
"""Userid → name, of people on the page."""
PAGE: web.RequestKey[bytes] = web.RequestKey("page", bytes)
"""The page that answers it, if that is status 200; not yet compressed."""
SAID: web.RequestKey[str] = web.RequestKey("said", str)
"""Result of the form that led here, for the top of the page."""


def name_of(request: web.Request, user: str) -> str:
    """The name of a person that the page has looked up; the userid where the directories have none."""
    return request.get(NAMES, {}).get(user) or user
