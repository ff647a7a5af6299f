"""Everything that a worker process holds: built once from the settings, closed once."""

import asyncio
import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.record import Draft
from dingrelay_workers.approvals.form_checks import FormChecks
from dingrelay_workers.calls.batch_registry import BatchRegistry
from dingrelay_workers.calls.tokens import Tokens
from dingrelay_workers.campaigns.leader import Leader
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.daily_limits import DailyLimits, Reach
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.maintenance.leases import Leases
from dingrelay_workers.maintenance.presence import Presence
from dingrelay_workers.maintenance.schedule import Schedule
from dingrelay_workers.maintenance.scheduler import Scheduler
from dingrelay_workers.maintenance.timeouts import Deadlines
from dingrelay_workers.metrics import LIMITS
from dingrelay_workers.store.connections import open_redis
from dingrelay_workers.store.patience import Patience
from dingrelay_workers.store.records import Records
from dingrelay_workers.store.revocations import Revocations

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.calls import CampaignCalls
    from dingrelay_workers.directory.store import DirectoryStore

CAMPAIGN_QUEUE = "dingrelay.bulk"
"""Whoever serves it may carry campaigns on."""

HAND_OVER = 0.2
"""Share of a stopping worker's time that is kept for giving back what still runs."""
CANCEL_AGAIN = 0.1
"""Seconds after which a task that did not heed its cancellation is cancelled again."""
FAREWELL = 2.0
"""Seconds in which a worker that stops may tell Redis so: its leases run out without that too."""
LIMITS_EVERY = 5.0
"""Seconds between two looks at the buckets for the metrics."""
RESTART_PAUSE = 1.0
"""Seconds before background work that failed unexpectedly is started again."""

log = get_logger("dingrelay.resources")


class Resources:
    """The parts of one worker process. Use as an async context, on one event loop.

    Args:
        settings: the configuration.
        publisher: publishes wake-ups.
        concurrency: how many jobs the process runs at once.
        queues: the queues that the process serves; with none it neither schedules nor renews
        leases,
            nor gives signs of life.
        consumed: tells which of them it takes messages of just now; all if not given.
    """

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        *,
        concurrency: int = 8,
        queues: Sequence[str] = (),
        consumed: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self.settings = settings
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.redis = open_redis(settings)
        self.patience = Patience()
        self.revocations = Revocations(self.redis, settings, self.patience)
        self.records = Records(
            self.redis, settings, worker=self.worker, on_made=self.revocations.made
        )
        self.schedule = Schedule(self.redis, settings)
        self.leases = Leases(self.records, lease=settings.lease)
        self.rules = Rules.from_settings(settings.rules, settings.egress)
        self.limiter = Limiter(
            self.redis,
            self.rules,
            max_wait=settings.max_wait,
            local_waiters=max(4, concurrency // 8),
            breakers=Breakers.from_settings(self.redis, self.rules, settings),
        )
        self.batches = BatchRegistry(self.records)
        self.quota = Quota(self.redis, settings)
        self.daily_limits = DailyLimits(self.redis, self._reached)
        self.form_checks = FormChecks(self.redis)
        self.scheduler = Scheduler(self.schedule, publisher, worker=self.worker)
        self.leader = Leader(
            self.records,
            publisher,
            lambda: self.directory.database,
            users_per_call=lambda app: self.limiter.recipients_per_call(app, MESSAGE_SEND.name),
        )
        self.presence = Presence(settings, worker=self.worker)
        self.deadlines = Deadlines(settings.job_timeout)
        self.draining = False
        self._end = math.inf
        self._publisher = publisher
        self._queues = queues
        self._consumed = consumed or (lambda: queues)
        self._background: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._transport: Transport | None = None
        self._tokens: Tokens | None = None

    async def __aenter__(self) -> Self:
        self._session = Transport.open_session(self.settings)
        classifier = Classifier(self.settings.codes, on_unknown=_warn_of_unknown_code)
        self._transport = Transport(self._session, classifier, self.settings)
        self._tokens = Tokens(
            self.redis, self._transport, self.settings, self.limiter, worker=self.worker
        )
        if self._queues:
            self.presence.start()
            for work in (self.leases.keep, self.scheduler.run, self._serve, self._end_outages):
                self._background.append(asyncio.create_task(_for_ever(work)))
        if self.settings.metrics_port:
            self._background.append(asyncio.create_task(_for_ever(self._show_limits)))
        if CAMPAIGN_QUEUE in self._queues:
            self._background.append(asyncio.create_task(_for_ever(self.leader.run)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drain()
        await _end(self._background)
        if self._queues:
            await asyncio.to_thread(self.presence.stop)
        try:
            async with asyncio.timeout(FAREWELL):
                await self.scheduler.stop()
                await self.leader.stop()
                await self.quota.close()
        except (RedisError, OSError) as error:  # TimeoutError is one of the latter
            log.warning("closed_without_redis", reason=type(error).__name__)
        await self.limiter.close()
        if self._tokens:
            await self._tokens.close()
        if self._session:
            await self._session.close()
        if "directory" in self.__dict__:
            await self.directory.close()
        await self.redis.aclose()

    @cached_property
    def directory(self) -> "DirectoryStore":
        """The SQL directory. Opened by the first job that needs it: most workers never do."""
        # SQLAlchemy takes as long to import as all the rest.
        from dingrelay_workers.directory.store import DirectoryStore  # noqa: PLC0415

        return DirectoryStore(self.settings.database, removal_share=self.settings.removal_share)

    @cached_property
    def campaigns(self) -> "CampaignCalls":
        """The calls of campaigns in SQL."""
        from dingrelay_workers.campaigns.calls import CampaignCalls  # noqa: PLC0415 - as `directory`

        return CampaignCalls(self.directory.database)

    @property
    def transport(self) -> Transport:
        """Makes the requests to DingTalk."""
        assert self._transport, "the resources are not open"
        return self._transport

    @property
    def tokens(self) -> Tokens:
        """The tokens of the apps."""
        assert self._tokens, "the resources are not open"
        return self._tokens

    @property
    def seconds_left(self) -> float:
        """How long a worker that stops may still wait for its jobs; infinite for one that does not."""
        return self._end - time.monotonic() - self.settings.soft_shutdown * HAND_OVER / 2

    async def enqueue(self, drafts: Sequence[Draft]) -> None:
        """Accept jobs and wake them."""
        wakeups = await self.records.enqueue(drafts)
        if wakeups:
            await asyncio.to_thread(self._publisher.publish, wakeups)

    def drain(self) -> None:
        """The worker stops: whoever waits for a limit gives the job back, or runs for too long."""
        if self.draining:
            return
        self.draining = True
        self._end = time.monotonic() + self.settings.soft_shutdown
        self.limiter.drain()
        self.deadlines.shorten(self.settings.soft_shutdown * (1 - HAND_OVER))
        self.patience.shorten(self.settings.soft_shutdown * (1 - HAND_OVER / 2))

    async def _end_outages(self) -> None:
        """Wake the jobs that wait for the end of an outage: some for its probes, then all."""
        beat = self.limiter.breakers.pace.beat
        while True:
            pause: float | None = None
            with suppress(RedisError, OSError):
                pause = await self.limiter.breakers.resume()
            await asyncio.sleep(min(pause or beat, beat))

    async def _show_limits(self) -> None:
        """Keep what the metrics show of the buckets current, at no cost for a job."""
        while True:
            try:
                LIMITS.states = await self.limiter.states()
                LIMITS.breakers = await self.limiter.breakers.states()
            except (RedisError, OSError):
                LIMITS.states, LIMITS.breakers = (), ()  # nothing is better than what was true once
            await asyncio.sleep(LIMITS_EVERY)

    async def _reached(
        self,
        app: str,
        users: Sequence[str],
        campaigns: Sequence[str],
        content: str,
        since: datetime,
    ) -> Reach:
        """What campaigns of an app have to do with some users."""
        from dingrelay_workers.campaigns import people_index, queue  # noqa: PLC0415 - as `directory`

        called, coming = await people_index.reached(
            self.directory.database, users, campaigns, content, since
        )
        jobs = {queue.chunk_job(app, campaign, release): some for campaign, release, some in coming}
        return Reach(called, jobs)

    async def _serve(self) -> None:
        """Tell which queues have a worker, once it has had time to start what waits in them."""
        grace = self.settings.wake_grace
        born = time.monotonic()
        while True:
            await asyncio.sleep(grace / 6)
            if time.monotonic() - born < grace:
                continue
            try:
                await self.schedule.serve(self._consumed(), ttl=grace / 2)
            except (RedisError, OSError):
                continue


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended.

    Once is not always enough: before Python 3.12 `asyncio.wait_for`, in which redis-py sends,
    loses a cancellation that comes just as the sending is done.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN)


async def _for_ever(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start the work again whatever ends it: without it jobs would be lost in silence."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("background_failed", work=work.__qualname__)
            await asyncio.sleep(RESTART_PAUSE)


def _warn_of_unknown_code(code: str, message: str) -> None:
    log.warning("unknown_code", code=code, message=message)
