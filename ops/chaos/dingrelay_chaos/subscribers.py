"""The business application of a run: it gets webhooks over HTTP and by Celery, and misbehaves."""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from aiohttp import web

from dingrelay_chaos.database import Database as Sql
from dingrelay_chaos.process import reserve
from dingrelay_producers import Settings
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_sandbox.receiver import receiving
from dingrelay_workers.database.database import Database
from dingrelay_workers.keys.documents import RotationRequest
from dingrelay_workers.webhooks.documents import EndpointRequest, ResumeRequest
from dingrelay_workers.webhooks.service import WebhookService

Manner = Literal[
    "slow", "error", "busy", "garbage", "cut", "endless", "redirect", "flap", "half", "gone"
]
"""How it takes what comes: too late, with 500, with 429 and a time to come back, with something that
is not HTTP, not at all, with a body without end, with another address, with 500 now and then, with
half an answer, or with 410."""
STATUSES = {"error": 500, "busy": 429, "redirect": 301, "gone": 410}
UNREADABLE = frozenset({"slow", "garbage", "cut", "half"})
HEADERS = {"busy": {"Retry-After": "1"}, "redirect": {"Location": "/elsewhere"}}
LATE_SECONDS = 4.0
"""Longer than the workers wait for an answer."""
CHUNK = b"x" * 65_536

ALL = "all"
"""The endpoint that takes everything from the start to the end, over HTTP."""
QUEUE, TASK = "chaos.notices", "chaos.notice"
"""Queue and task of the endpoint that is a Celery application."""
KEY = "the-webhook-key-of-chaos-which-must-stay-secret"
"""From which the secrets of endpoints are made; the workers' setting."""
NETWORKS = "127.0.0.0/8"
FIRST: dict[str, tuple[str, ...]] = {
    ALL: ("*",),
    "celery": ("*",),
    "approvals": ("approval.*",),
    "directory": ("directory.*", "dingtalk.*"),
    "gone": ("job.*",),
}
"""The endpoints that are there from the start, and what they take."""
GONE = "gone"
"""Prefix of endpoints that may answer 410."""
LEVELS: tuple[tuple[str, ...], ...] = (
    ("all",),
    ("all", "approvals", "gone"),
    ("all", "celery", "directory"),
    tuple(FIRST),
)
"""Sets of subscriptions, one of which a seed has."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One request.

    Attributes:
        path: the endpoint's name.
        at: when it came, by the monotonic clock.
        status: what was answered; 0 for nothing that a client could read.
    """

    path: str
    at: float
    id: str
    timestamp: str
    signatures: str
    body: bytes
    status: int

    @property
    def taken(self) -> bool:
        """Whether the answer said so, if it arrived."""
        return 200 <= self.status < 300


class Receiver:
    """An HTTP server; its endpoints are its paths.

    Attributes:
        requests: everything, in order; only appended to.
        manners: endpoint → how it misbehaves; ``*`` for all.
    """

    def __init__(self) -> None:
        self.port = reserve()
        self.requests: list[WebhookRequest] = []
        self.manners: dict[str, Manner] = {}
        self._serving = ExitStack()
        self._away = True

    def go_away(self) -> None:
        """Refuse connections, and end those that there are."""
        self._serving.close()
        self._away = True

    def come_back(self) -> None:
        """Listen again."""
        if self._away:
            self._serving.enter_context(receiving(self._take, self.port))
            self._away = False

    def mend(self) -> None:
        """End everything that is wrong with it."""
        self.manners.clear()
        self.come_back()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["path"]
        at, body = time.monotonic(), await request.read()
        manner = self.manners.get(name) or self.manners.get("*") or ""
        status = 0 if manner in UNREADABLE else STATUSES.get(manner, 204)
        if manner == "flap":
            status = random.choice((204, 500))
        notice, stamp, signatures = (
            request.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        got = WebhookRequest(name, at, notice, stamp, signatures, body, status)
        self.requests.append(got)
        return await _answer(request, manner, status)


async def _answer(request: web.Request, manner: str, status: int) -> web.StreamResponse:
    match manner:
        case "slow":
            await asyncio.sleep(LATE_SECONDS)
        case "garbage" | "cut" | "half" if (transport := request.transport) is not None:
            if manner != "cut":
                transport.write(b"HTTP/1.1 2" if manner == "half" else b"\0\xff not HTTP \r\n\r\n")
            transport.close()
        case "endless":
            endless = web.StreamResponse()
            await endless.prepare(request)
            while True:
                await endless.write(CHUNK)
        case _:
            pass
    return web.Response(status=status or 204, headers=HEADERS.get(manner))


@dataclass(slots=True)
class Subscriber:
    """An endpoint, and what was asked of it.

    Attributes:
        born: number of the last notice that it may miss.
        secrets: each with the moment, by the monotonic clock, when it was made.
        surely: False once an answer to something that was asked was lost: then secrets and state
            are not known.
        skipped: it was resumed without what had happened in its pause, or that was asked for.
        ends: its receiver may answer 410, which ends it.
        removed: it is gone, or may be.
    """

    name: str
    types: tuple[str, ...]
    id: str = ""
    born: int = 0
    secrets: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    surely: bool = False
    skipped: bool = False
    ends: bool = False
    removed: bool = False


class Subscribers:
    """All endpoints of a run, as a person manages them."""

    def __init__(self, receiver: Receiver, sql: Sql) -> None:
        self.all: dict[str, Subscriber] = {}
        self._receiver = receiver
        self._sql = sql
        self._lock = threading.Lock()

    def add(self, name: str, types: tuple[str, ...]) -> None:
        """Send webhooks to an endpoint from now on."""
        # Known before it is asked for: if the answer is lost, it may get some all the same.
        made = self.all[name] = Subscriber(name, types, ends=name.startswith(GONE))
        http = f"http://127.0.0.1:{self._receiver.port}/{name}"
        url = f"celery://{QUEUE}/{TASK}" if name == "celery" else http
        request = EndpointRequest(name=name, url=url, types=list(types))
        issued = _ask(lambda store: store.add(request))
        made.id = issued.id
        made.secrets.append((time.monotonic(), issued.secret))
        made.born = self._sql.value("select coalesce(max(number), 0) from notices")
        made.surely = True

    def ask(self, verb: str, name: str, seconds: float = 0) -> None:
        """Ask something of an endpoint, if it is there.

        Args:
            verb: such as ``pause``; ``skip`` resumes it without what happened in its pause.
            name: of the endpoint.
            seconds: for which the secret before a rotation signs as well, or since when it gets all again.
        """
        of = self.all.get(name)
        if of is None or not of.id or of.removed:
            return
        of.skipped = of.skipped or verb == "skip"
        of.removed = verb == "remove"
        if verb == "rotate":
            with self._lock:
                surely, of.surely = of.surely, False
            request = RotationRequest(overlap=f"{seconds:.0f}s")
            issued = _ask(lambda store: store.rotate(of.id, request))
            of.secrets.append((time.monotonic(), issued.secret))
            of.surely = surely
            return
        since = datetime.now(UTC) - timedelta(seconds=seconds)
        calls: dict[str, tuple[str, dict[str, Any]]] = {
            "skip": ("resume", {"request": ResumeRequest(skip=True)}),
            "replay": ("resume", {"request": ResumeRequest(since=since)}),
            "test": ("test", {"within": 1.0}),
        }
        method, arguments = calls.get(verb, (verb, {}))
        _ask(lambda store: getattr(store, method)(of.id, **arguments))

    def resume_all(self) -> None:
        """Act as an operator after a bad hour."""
        for each in tuple(self.all.values()):
            if not each.ends:
                self.ask("resume", each.name)


def _ask(act: Callable[[WebhookService], Awaitable[Answer]]) -> Answer:
    async def answer() -> Answer:
        settings = Settings.load()
        database, redis = Database(settings.database), open_redis(settings)
        try:
            return await act(WebhookService(database, redis, settings))
        finally:
            await redis.aclose()
            await database.dispose()

    return asyncio.run(answer())
