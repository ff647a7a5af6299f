"""Who is told by webhooks in a run: endpoints as a person sees to them, and what the oracle knows."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from dingrelay_chaos.database import Database as Sql
from dingrelay_chaos.receiver import Receiver
from dingrelay_producers import Settings
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox.notice import Subscription
from dingrelay_workers.webhooks.store import SqlWebhookStore

ALL = "all"
"""The endpoint that takes everything from the start to the end, over HTTP."""
QUEUE, TASK = "chaos.notices", "chaos.notice"
"""Where the endpoint of Celery's is told."""
KEY = "the-webhook-key-of-chaos-which-nobody-may-tell"
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
"""What the names of endpoints begin with that may answer 410."""
LEVELS: tuple[tuple[str, ...], ...] = (
    ("all",),
    ("all", "approvals", "gone"),
    ("all", "celery", "directory"),
    tuple(FIRST),
)
"""Which of them a seed has."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Subscriber:
    """An endpoint, and what was asked of it.

    Attributes:
        born: number of the last notice that it need not hear of.
        secrets: each with the moment, by the monotonic clock, when it was made.
        surely: False once an answer to something that was asked was lost: then secrets and state
            are not known.
        skipped: it was resumed without what had happened meanwhile, or that was asked for.
        ends: its receiver may answer 410, which ends it.
        removed: it is gone, or may be.
    """

    name: str
    types: tuple[str, ...]
    id: str = ""
    born: int = 0
    secrets: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    surely: bool = True
    skipped: bool = False
    ends: bool = False
    removed: bool = False


class Subscribers:
    """All endpoints of a run. What is asked of one is asked one after the other."""

    def __init__(self, receiver: Receiver, sql: Sql) -> None:
        self.all: dict[str, Subscriber] = {}
        self._receiver = receiver
        self._sql = sql
        self._lock = threading.Lock()

    def add(self, name: str, types: tuple[str, ...]) -> None:
        """Have an endpoint told from now on."""
        made = Subscriber(name, types, ends=name.startswith(GONE))
        # Known before it is asked for: if the answer is lost, it may be told all the same.
        self.all[name] = made
        url = f"celery://{QUEUE}/{TASK}" if name == "celery" else self._receiver.url(name)
        wanted = Subscription(name=name, url=url, types=types)
        made.surely = False
        issued = self._ask(lambda store: store.add(wanted))
        made.id = issued.endpoint.id
        made.secrets.append((time.monotonic(), issued.secret))
        made.born = self._last_notice()
        made.surely = True

    def pause(self, name: str) -> None:
        """Have it told nothing for now."""
        if each := self._known(name):
            self._ask(lambda store: store.pause(each.id))

    def resume(self, name: str, *, skip: bool = False) -> None:
        """Have it told again."""
        if each := self._known(name):
            each.skipped = each.skipped or skip
            self._ask(lambda store: store.resume(each.id, skip=skip))

    def rotate(self, name: str, overlap: float) -> None:
        """Give it another secret; the one before signs as well for some seconds."""
        if each := self._known(name):
            with self._lock:
                surely, each.surely = each.surely, False
            issued = self._ask(
                lambda store: store.rotate(each.id, overlap=timedelta(seconds=overlap))
            )
            each.secrets.append((time.monotonic(), issued.secret))
            each.surely = surely

    def replay(self, name: str, seconds: float) -> None:
        """Have it told once more of what it was told in the last seconds."""
        if each := self._known(name):
            since = datetime.now(UTC) - timedelta(seconds=seconds)
            self._ask(lambda store: store.replay(each.id, since=since))

    def test(self, name: str) -> None:
        """Tell it nothing."""
        if each := self._known(name):
            self._ask(lambda store: store.test(each.id, within=1.0))

    def remove(self, name: str) -> None:
        """Forget it."""
        if each := self._known(name):
            each.removed = True
            self._ask(lambda store: store.remove(each.id))

    def resume_all(self) -> None:
        """What an operator does after a bad hour."""
        for each in tuple(self.all.values()):
            if each.id and not each.removed and not each.ends:
                self.resume(each.name)

    def _known(self, name: str) -> Subscriber | None:
        found = self.all.get(name)
        return found if found and found.id and not found.removed else None

    def _ask(self, act: Callable[[SqlWebhookStore], Awaitable[Answer]]) -> Answer:
        async def answer() -> Answer:
            settings = Settings.load()
            database, redis = Database(settings.database), open_redis(settings)
            store = SqlWebhookStore(database, redis, settings)
            try:
                return await act(store)
            finally:
                await redis.aclose()
                await database.dispose()

        return asyncio.run(answer())

    def _last_notice(self) -> int:
        """A number that no notice has which the new endpoint may miss."""
        (row,) = self._sql.rows("select coalesce(max(number), 0) as last from notices")
        return int(row["last"])
