"""Passes notices on to endpoints: from outbox and stream into SQL, and from there into deliveries.

At least once, whatever dies and whenever:

* Notices of the outbox are recorded and deleted from it in one transaction. Those of the stream of
  ended jobs are recorded, that is committed, and then the stream is passed: a crash between the two
  has them recorded once more, under the same ids, which changes nothing.
* An endpoint's position and the rows of its new deliveries are committed together, and then their
  jobs are enqueued. A crash between the two leaves rows without jobs: whoever takes the lease looks
  at all rows, and enqueues what has no record, under the same ids.
* A delivery's row goes once its job has ended, which the stream tells, too; its record goes after
  that is committed. A job that Redis lost is found without a record and enqueued again, so its
  notice may be sent twice, with the same id, and is never sent less than once.
* What Redis is told (enqueue, forget) names the lease, and is refused to an older leader. Where an
  older one still writes to SQL, both go by what they read under the writer's lock.
* The database away: nothing is passed on; the stream waits, up to its bound.

Redis holds a window of each endpoint's deliveries, however far behind it is.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_tasks.webhook_deliver import WebhookDeliver
from dingrelay_workers.database.database import Database
from dingrelay_workers.maintenance.leader import Work
from dingrelay_workers.metrics import (
    NOTICES_MISSED,
    WEBHOOK_DELIVERIES,
    WEBHOOK_FAILING_SECONDS,
    WEBHOOK_LAG_SECONDS,
)
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.endings import Ending, Endings, Page
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.store.records import Records
from dingrelay_workers.webhooks import endpoints, notices, releases
from dingrelay_workers.webhooks.ended_jobs import Wanted, notices_of
from dingrelay_workers.webhooks.endpoints import WRITER
from dingrelay_workers.webhooks.gate import Gate, Health
from dingrelay_workers.webhooks.models import NoticeRow
from dingrelay_workers.webhooks.queue import DeliveryQueue, draft
from dingrelay_workers.webhooks.releases import Released
from dingrelay_workers.webhooks.stored_endpoint import StoredEndpoint

READER = "webhooks"
"""Its name among the readers of ended jobs."""
AT_ONCE = 500
"""Notices that one turn passes on."""

BUSY, IDLE = 0.05, 0.5
"""Seconds between turns, while there is something to pass on and otherwise."""
BEAT = 1.0
"""Seconds between two looks at the gates."""
RECONCILE = 60.0
"""Seconds between two looks at all that is under way: a job that Redis lost is missed so long."""
PURGE = 60.0
"""Seconds between two looks for notices that are too old."""

log = get_logger("dingrelay.webhooks")


class Dispatcher(Work):
    """Passes notices on for as long as it has the lease.

    Args:
        records: the job records.
        publisher: publishes wake-ups.
        database: with outbox, endpoints and notices.
        settings: how long an endpoint may fail, and notices are kept.
        now: Redis's time.
    """

    database_away = SQLAlchemyError

    def __init__(
        self,
        records: Records,
        publisher: Publisher,
        database: Database,
        settings: Settings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        self._redis = records.redis
        self._queue = DeliveryQueue(records, publisher)
        self._gate = Gate(records.redis)
        self._endings = Endings(records.redis, READER)
        self._database = database
        self._settings = settings
        self._now = now
        self._ready = False
        self._shown: set[str] = set()
        self.begin("")

    def begin(self, holder: str) -> None:
        """The lease is this worker's again: what was remembered may be out of date."""
        super().begin(holder)
        self._queue.holder = holder
        self._reconcile_at = self._purge_at = self._beat_at = -1.0
        self._unpublished = False
        WEBHOOK_LAG_SECONDS.set(0)  # of another worker by now
        self._show_no_more(self._shown)

    async def tick(self) -> float | None:
        """Pass on what there is, and begin deliveries.

        Returns:
            Seconds until the next time; None if there is no endpoint, and nothing to pass on.

        Raises:
            SQLAlchemyError: the database is away.
            RedisError: Redis is away.
        """
        self._step()
        if self._unpublished:  # of the last turn: what it committed may not have come to Redis
            self._reconcile_at = -1.0
        self._ready = self._ready or await self._database.has(NoticeRow)
        page = await self._endings.read(AT_ONCE)
        if not self._ready:
            await self._pass(page)
            return None
        async with self._database.read() as connection:
            known = await endpoints.all_of(connection)
            waiting = await outbox.oldest(connection, AT_ONCE)
            failed = await self._gate.failed([endpoint.id for endpoint in known])
            free = await releases.room(connection, known, failed)
            behind = await releases.may_begin(connection, known, free)
        self._step()
        if not known:
            return await self._drain(waiting, page)
        more = await self._pass_on(known, waiting, page, free, behind=behind)
        self._step()
        await self._keep_up(known)
        return BUSY if more else IDLE

    async def _drain(self, waiting: Sequence[tuple[int, Notice]], page: Page) -> float | None:
        """Nobody is to hear of anything: let it go."""
        if waiting:
            async with self._database.write(WRITER) as connection:
                await outbox.forget(connection, [number for number, _ in waiting])
        await self._pass(page)
        return BUSY if len(waiting) == AT_ONCE or len(page.endings) == AT_ONCE else None

    async def _pass_on(
        self,
        known: Sequence[StoredEndpoint],
        waiting: Sequence[tuple[int, Notice]],
        page: Page,
        free: Mapping[str, int],
        *,
        behind: bool,
    ) -> bool:
        """Record notices, end deliveries and begin others in one transaction; then tell Redis.

        Returns:
            Whether there is more to do at once.
        """
        wanted = _anybody(known)
        to_record = [notice for _, notice in waiting]
        to_record += await notices_of(self._redis, page.endings, wanted)
        to_record = [notice for notice in to_record if wanted(notices.subject(notice))]
        ended = await self._ended(page.endings)
        now = self._now()
        released, over = Released(), list[tuple[str, str]]()
        if waiting or to_record or ended or behind:
            self._unpublished = True
            async with self._database.write(WRITER) as connection:
                await notices.record(connection, to_record, now)
                await outbox.forget(connection, [number for number, _ in waiting])
                over = await releases.end(connection, ended)
                released = await releases.release(connection, free, now)
            await self._enqueue(released.rows)
            await self._forget(over)
            self._unpublished = False
        await self._pass(page)
        oldest = min((notice.at for notice in to_record), default=now)
        WEBHOOK_LAG_SECONDS.set(max(0.0, (now - oldest).total_seconds()))
        full = len(waiting) == AT_ONCE or len(page.endings) == AT_ONCE
        return full or released.more or bool(to_record or ended)

    async def _ended(self, endings: Sequence[Ending]) -> list[str]:
        """Deliveries among the jobs that ended, and that need no more."""
        ours = [ending for ending in endings if ending.kind == WebhookDeliver.kind]
        dead = {ending.id for ending in ours if ending.state == State.DEAD}
        over = await self._queue.revive(dead)
        return [*over, *(ending.id for ending in ours if ending.id not in dead)]

    async def _pass(self, page: Page) -> None:
        """Ends that were read need not come again; tell of those that nobody will read."""
        if await self._endings.pass_(page) and page.missed:
            NOTICES_MISSED.labels("ends of jobs").inc(page.missed)
            log.error("endings_missed", entries=page.missed)

    async def _forget(self, over: Sequence[tuple[str, str]]) -> None:
        await self._gate.end(over)
        await self._queue.forget([job for _, job in over])

    async def _enqueue(self, rows: Sequence[Mapping[str, Any]]) -> None:
        await self._queue.enqueue([self._draft(row) for row in rows])

    def _draft(self, row: Mapping[str, Any]) -> Draft:
        released: datetime = row["released_at"]
        job = WebhookDeliver(
            app=row["app"],
            endpoint=row["endpoint"],
            notice=row["notice"],
            until=released + timedelta(seconds=self._settings.webhook_give_up),
        )
        return draft(job, row["job"])

    async def _keep_up(self, known: Sequence[StoredEndpoint]) -> None:
        """What is not done in every turn."""
        now = time.monotonic()
        if now >= self._reconcile_at:
            self._unpublished = True
            await self._reconcile()
            self._unpublished = False
            self._reconcile_at = now + RECONCILE
        if now >= self._beat_at:
            await self._beat(known)
            self._beat_at = now + BEAT
        if now >= self._purge_at:
            await self._purge()
            self._purge_at = now + PURGE

    async def _reconcile(self) -> None:
        """Look at all that is under way: enqueue what has no job, end what has ended."""
        last: tuple[str, int, int] = ("", 0, 0)
        while True:
            async with self._database.read() as connection:
                rows = await releases.page(connection, last, AT_ONCE)
            if not rows:
                return
            states = await self._queue.states([row["job"] for row in rows])
            await self._enqueue([row for row in rows if states[row["job"]] is None])
            over = [job for job, state in states.items() if state and State(state).ended]
            dead = [job for job in over if states[job] == State.DEAD]
            alive = set(dead) - set(await self._queue.revive(dead))
            over = [job for job in over if job not in alive]
            if over:
                async with self._database.write(WRITER) as connection:
                    known = await releases.end(connection, over)
                await self._forget(known)
            last = (rows[-1]["endpoint"], rows[-1]["notice"], rows[-1]["round"])
            self._step()

    async def _beat(self, known: Sequence[StoredEndpoint]) -> None:
        """Look at the gates: wake who may go, and disable who has failed for days."""
        async with self._database.read() as connection:
            under_way = await releases.under_way(connection)
        for endpoint in known:
            WEBHOOK_DELIVERIES.labels(endpoint.id).set(under_way.get(endpoint.id, 0))
            health = Health()
            if endpoint.enabled and under_way.get(endpoint.id):
                health, wakeups = await self._gate.resume(endpoint.id)
                await self._queue.publish(wakeups)
            WEBHOOK_FAILING_SECONDS.labels(endpoint.id).set(health.failing_for.total_seconds())
            if health.failing_for.total_seconds() >= self._settings.webhook_give_up:
                reason = f"it has accepted nothing since {health.failing_since:%Y-%m-%d %H:%M} UTC"
                await endpoints.disable(self._database, endpoint, f"{reason}: {health.code}")
        self._show_no_more(self._shown - {endpoint.id for endpoint in known})
        self._shown = {endpoint.id for endpoint in known}

    def _show_no_more(self, gone: Collection[str]) -> None:
        """Leave endpoints out of the metrics that are removed, or looked at by another worker now."""
        for endpoint in gone:
            WEBHOOK_DELIVERIES.remove(endpoint)
            WEBHOOK_FAILING_SECONDS.remove(endpoint)
        self._shown = self._shown - set(gone)

    async def _purge(self) -> None:
        """Delete notices that are too old, and tell of those that somebody has not heard of."""
        before = self._now() - timedelta(seconds=self._settings.webhook_retention)
        while True:
            async with self._database.write(WRITER) as connection:
                gone, missed = await notices.forget_before(connection, before)
            for endpoint, count in missed.items():
                NOTICES_MISSED.labels("endpoint away").inc(count)
                log.error("webhook_notices_missed", endpoint=endpoint, notices=count)
            if gone < notices.SLICE:
                return
            self._step()


def _anybody(known: Collection[StoredEndpoint]) -> Wanted:
    """Whether some endpoint, in whatever state, takes such a notice."""
    return lambda subject: any(each.endpoint.takes(subject) for each in known)
