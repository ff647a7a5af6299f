"""Everything that a worker process holds: built once from the settings, closed once."""

import asyncio
import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.store.record import Draft
from dingrelay_tasks.contract import DIRECTORY_QUEUE, WEBHOOKS_QUEUE
from dingrelay_tasks.organisation import Directory
from dingrelay_tasks.outcomes import Refused
from dingrelay_tasks.sentence import en
from dingrelay_workers import duties
from dingrelay_workers.approvals.form_checks import FormChecks
from dingrelay_workers.backlog.shown import ShownBacklog
from dingrelay_workers.calls.registry import BatchRegistry
from dingrelay_workers.calls.tokens import Tokens
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.limiter import fleet_rules
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.daily_limits import DailyLimits
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import ParkedJobs
from dingrelay_workers.maintenance import served_names
from dingrelay_workers.maintenance.leader import NOTICES, WORK, Leader, LeaderParts
from dingrelay_workers.maintenance.presence import Deadlines, Leases, Presence
from dingrelay_workers.maintenance.presence_thread import PresenceThread
from dingrelay_workers.maintenance.scheduler import Schedule, Scheduler
from dingrelay_workers.metrics import BACKLOG, LIMITS, REDIS_REACHABLE
from dingrelay_workers.minutes import MINUTES
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.recipients.checks import RecipientChecks
from dingrelay_workers.store.connections import RedisRetry, end_tasks, open_redis
from dingrelay_workers.store.records import Records
from dingrelay_workers.store.revocations import Revocations

if TYPE_CHECKING:
    from dingrelay_workers.approvals.states import JobApprovalStates
    from dingrelay_workers.database.database import Database
    from dingrelay_workers.recipients.known_people import KnownPeople

BULK_QUEUE = "dingrelay.bulk"
"""Workers that serve it, or that of the directory, may lead."""

DATABASE_SHARE = 0.25
"""Share of the places for jobs that may wait for the database at a time: messages need Redis only."""
HAND_OVER = 0.2
"""Share of a stopping worker's time that is kept for giving back what still runs."""
FAREWELL = 2.0
"""Seconds in which a worker that stops may write that to Redis: its leases run out without that too."""
LIMITS_EVERY = 5.0
"""Seconds between two looks at the buckets for the metrics."""
LIMITS_WITHIN = 10.0
"""Seconds for such a look: a Redis that hangs is logged then, long before a job gives it up."""
BACKLOG_EVERY = 15.0
"""The same at what waits."""
RULES_EVERY = 20.0
"""Seconds between two times that the rules of this process are published."""
RESTART_PAUSE = 1.0
"""Seconds before background work that failed unexpectedly is started again."""

log = get_logger("dingrelay.resources")


def process_name() -> str:
    """A name for this process that no other one has, as it owns jobs."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The name of a worker and its connections. Several workers of one process have each their own.

    Attributes:
        worker: its name, as it owns jobs.
        open_redis: opens Redis.
        connector: opens the connections to DingTalk; by TCP if there is none.
        heartbeat: runs the heartbeats while its block does.
    """

    worker: str = field(default_factory=process_name)
    open_redis: Callable[[Settings], Redis] = open_redis
    connector: aiohttp.BaseConnector | None = None
    heartbeat: Callable[[Settings, Presence], AbstractAsyncContextManager[object]] = PresenceThread


class Resources:
    """The parts of one worker process. Use as an async context, on one event loop.

    Args:
        settings: the configuration.
        publisher: publishes wake-ups.
        concurrency: how many jobs the process runs at once.
        queues: the queues that the process serves; with none it neither schedules nor renews
            leases, nor sends heartbeats.
        consumed: returns those that it takes messages from just now; all if not given.
        surroundings: those of a process of its own if not given.
    """

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        *,
        concurrency: int = 8,
        queues: Sequence[str] = (),
        consumed: Callable[[], Sequence[str]] | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        around = surroundings or Surroundings()
        self.settings = settings
        self.apps = CurrentApps(settings)
        self.worker = around.worker
        self.redis = around.open_redis(settings)
        self.redis_retry = RedisRetry()
        self.revocations = Revocations(self.redis, settings, self.redis_retry, worker=self.worker)
        self.records = Records(
            self.redis, settings, worker=self.worker, on_made=self.revocations.made
        )
        self.schedule = Schedule(self.redis, settings)
        self.leases = Leases(self.records, lease=settings.lease)
        self.rules = Rules.from_settings(settings.limits, settings.egress)
        self.limiter = Limiter(
            self.redis,
            self.rules,
            max_wait=settings.max_wait,
            local_waiters=max(4, concurrency // 8),
            breakers=Breakers.from_settings(self.redis, self.rules, settings, self.apps),
        )
        self.batches = BatchRegistry(self.records)
        self.clock = DingTalkClock(self.redis)
        self.quota = Quota(self.redis, settings, now=self.clock.now)
        self.daily_limits = DailyLimits(self.redis)
        self.form_checks = FormChecks(self.redis)
        self.recipient_checks = RecipientChecks(self.redis, settings, lambda: self.known_people)
        parked = ParkedJobs(self.redis, self.rules)
        self.scheduler = Scheduler(self.schedule, parked, publisher, worker=self.worker)
        self.leader, self.webhook_leader = self._leaders(publisher)
        self.presence = Presence(worker=self.worker)
        self.deadlines = Deadlines(settings.job_timeout)
        self.draining = False
        self._end = math.inf
        self._publisher = publisher
        self._concurrency = concurrency
        self._queues = queues
        self._connector = around.connector
        self._heartbeat = around.heartbeat(settings, self.presence)
        self._consumed = consumed or (lambda: queues)
        self._background: list[asyncio.Task[None]] = []
        self._for_jobs: dict[str, Any] = {}
        self._session: aiohttp.ClientSession | None = None
        self._transport: Transport | None = None
        self._tokens: Tokens | None = None

    def _leaders(self, publisher: Publisher) -> tuple[Leader, Leader]:
        parts = LeaderParts(
            records=self.records,
            publisher=publisher,
            database=lambda: self.database,
            settings=self.settings,
            users_per_call=lambda app: self.limiter.recipients_per_call(app, MESSAGE_SEND.name),
        )
        work, notices = duties.under_lease("work", parts), duties.under_lease("notices", parts)
        return Leader(self.redis, WORK, work), Leader(self.redis, NOTICES, notices)

    async def __aenter__(self) -> Self:
        self._session = Transport.open_session(self.settings, self._connector)
        classifier = Classifier(self.settings.codes, on_unknown=_warn_of_unknown_code)
        self._transport = Transport(self._session, classifier, self.settings, self.clock)
        self._tokens = Tokens(
            self.redis,
            self._transport,
            self.settings,
            self.limiter,
            self.apps,
            worker=self.worker,
        )
        self._start(partial(clock.CLOCK.follow, self.redis))
        if self._queues:
            await self._heartbeat.__aenter__()
            self._start(self.leases.keep, self.scheduler.run)
            self._start(self._serve, self._end_outages, self._publish_rules)
        if self.apps.has_files:
            self._start(partial(self.apps.watch, lambda: self.rules.renew(self.apps.limits)))
        if self.settings.metrics_port:
            self._start(self._show_limits, self._show_backlog)
        if {BULK_QUEUE, DIRECTORY_QUEUE} & {*self._queues}:
            self._start(self.leader.run)
        if WEBHOOKS_QUEUE in self._queues:
            self._start(self.webhook_leader.run)
        return self

    def _start(self, *works: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._background += [asyncio.create_task(_for_ever(work)) for work in works]

    async def __aexit__(self, *_: object) -> None:
        self.drain()
        await end_tasks(self._background)
        if self._queues:
            await self._heartbeat.__aexit__(None, None, None)
        try:
            async with asyncio.timeout(FAREWELL):
                await self.scheduler.stop()
                await self.leader.close()
                await self.webhook_leader.close()
                await self.quota.close()
                await MINUTES.report(self.redis)
        except (RedisError, OSError) as error:  # TimeoutError is one of the latter
            log.warning("closed_without_redis", reason=type(error).__name__)
        await self._publisher.aclose()
        await self.limiter.close()
        if self._tokens:
            await self._tokens.close()
        if self._session:
            await self._session.close()
        if "known_people" in self.__dict__:
            await self.known_people.close()
        if "database" in self.__dict__:
            await self.database.dispose()
        await self.redis.aclose()

    @cached_property
    def database(self) -> "Database":
        """The SQL database. Opened by the first work that needs it: most workers never do."""
        # SQLAlchemy takes as long to import as all the rest.
        from dingrelay_workers.database.database import Database  # noqa: PLC0415

        return Database(self.settings.database)

    @cached_property
    def jobs_database(self) -> "Database":
        """The same as jobs use it: no more than a share of them at a time."""
        return self.database.limited(max(1, round(self._concurrency * DATABASE_SHARE)))

    def directory(self, app: str, *, read_at: int = 0) -> Directory:
        """The directory of an app, for writing answers read at a given moment."""
        directory: Directory = self.noun_for_jobs("directory")(
            app, read_at=read_at, on_complete=self.recipient_checks.note_synced
        )
        return directory

    @cached_property
    def known_people(self) -> "KnownPeople":
        """The directory, for look-ups of recipients of messages."""
        from dingrelay_workers.recipients.known_people import KnownPeople  # noqa: PLC0415 - as `database`

        return KnownPeople(self.jobs_database)

    def noun_for_jobs(self, name: str) -> Any:
        """Resource of a noun that its jobs use, opened at the first use.

        Raises:
            Refused: there is no such noun here.
        """
        if name not in self._for_jobs:
            parts = {
                noun.name: partial(noun.load, part) for noun in NOUNS for part in noun.for_jobs
            }
            if name not in parts:
                raise Refused("unknown_noun", en("this worker has no {}", name), "")
            make = parts[name]()
            self._for_jobs[name] = make(self.jobs_database, self.redis, self.settings)
        return self._for_jobs[name]

    def approval_states(self, app: str, *, job_id: str, sender: str) -> "JobApprovalStates":
        """The states of approvals, in SQL, for one job."""
        from dingrelay_workers.approvals.states import JobApprovalStates  # noqa: PLC0415 - as `database`
        from dingrelay_workers.approvals.store import ApprovalStore  # noqa: PLC0415

        return JobApprovalStates(
            app,
            job_id=job_id,
            sender=sender,
            store=lambda: ApprovalStore(self.jobs_database, app, self.settings.approvals.looks),
            redis=self.redis,
            clock=self.clock,
            settings=self.settings,
            enqueue=self.enqueue,
            wake=self.records.wake,
        )

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
        await self.records.publish(self._publisher, await self.records.enqueue(drafts))

    def drain(self) -> None:
        """The worker stops. Jobs that wait for a limit are given back: they would run for too long."""
        if self.draining:
            return
        self.draining = True
        self._end = time.monotonic() + self.settings.soft_shutdown
        self.limiter.drain()
        self.deadlines.shorten(self.settings.soft_shutdown * (1 - HAND_OVER))
        self.redis_retry.shorten(self.settings.soft_shutdown * (1 - HAND_OVER / 2))

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
                async with asyncio.timeout(LIMITS_WITHIN):
                    LIMITS.states = await self.limiter.states()
                    LIMITS.breakers = await self.limiter.breakers.states()
                REDIS_REACHABLE.set(1)
            except (RedisError, OSError):  # TimeoutError is one of the latter
                LIMITS.states, LIMITS.breakers = (), ()  # nothing is better than what was true once
                REDIS_REACHABLE.set(0)
            await asyncio.sleep(LIMITS_EVERY)

    async def _show_backlog(self) -> None:
        """Keep what the metrics show of waiting jobs current."""
        shown = ShownBacklog(self.redis, self.settings, self.quota, apps=self.settings.apps)
        while True:
            try:
                BACKLOG.series = await shown.current()
            except (RedisError, OSError):
                BACKLOG.series = {}  # as above
            await asyncio.sleep(BACKLOG_EVERY)

    async def _publish_rules(self) -> None:
        """Publish the limits of this process, the names that it serves, what it is and what it did, for those who look at them."""
        started, names = clock.now(), served_names.names_of_settings(self.settings)
        release = version("dingrelay")  # reads a file of the installation
        while True:
            with suppress(RedisError, OSError):
                about = {
                    "version": release,
                    "lanes": [queue.removeprefix("dingrelay.") for queue in self._consumed()],
                    "running": self.leases.count,
                    "started_at": started.isoformat(),
                    "seen_at": clock.now().isoformat(),
                }
                await served_names.publish(self.redis, names)
                await fleet_rules.publish(self.redis, self.worker, self.rules, about)
                await MINUTES.report(self.redis)
            await asyncio.sleep(RULES_EVERY)

    async def _serve(self) -> None:
        """Show which queues have a worker, and whether it has had time to start what waits in them."""
        grace = self.settings.lease
        born = time.monotonic()
        while True:
            new = time.monotonic() - born < grace
            with suppress(RedisError, OSError):
                await self.schedule.serve(self._consumed(), ttl=grace / 2, new=new)
            await asyncio.sleep(grace / 6)


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
