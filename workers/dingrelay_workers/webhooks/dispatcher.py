"""Carries notices to endpoints: the turns of the leader.

A turn is one transaction: ends of jobs from their stream become notices and deliveries, what requests
came to is written down, and deliveries that are due are claimed. At least once, whatever dies and when:

* Notices of jobs that ended are committed, and then the stream is passed: a crash between the two
  reads them once more, under the same ids, which changes nothing.
* A claim ends by itself. What a worker had under way when it died is sent again, with the same id.
* What came of a request is kept until it is committed, also while the database is away or another
  worker leads: that a notice was accepted stays true.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers.database.database import Database
from dingrelay_workers.maintenance.leader import LeaderParts, Now, Work
from dingrelay_workers.metrics import (
    NOTICES_MISSED,
    WEBHOOK_BREAKERS,
    WEBHOOK_DELIVERIES,
    WEBHOOK_ENDPOINTS_DISABLED,
    WEBHOOK_FAILING_SECONDS,
    WEBHOOK_LAG_SECONDS,
)
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.endings import WEBHOOKS, Endings, Page
from dingrelay_workers.outbox.models import DeliveryRow
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks import deliverer, deliveries, endpoints
from dingrelay_workers.webhooks.deliverer import Deliverer
from dingrelay_workers.webhooks.deliveries import Change, Delivery
from dingrelay_workers.webhooks.ended_jobs import notices_of
from dingrelay_workers.webhooks.endpoints import WRITER, StoredEndpoint
from dingrelay_workers.webhooks.http import Receipt

AT_ONCE = 500
"""Ends of jobs, and deliveries, of one turn."""
BUSY, IDLE = 0.05, 0.25
"""Seconds between turns, while there is something to do and otherwise."""
BEAT = 5.0
"""Seconds between two looks at the health of all endpoints."""
PURGE = 60.0
"""Seconds between two looks for notices that are too old."""
RETENTION = timedelta(days=7)
"""Retention of notices, for delivery and replay: longer than one is tried."""
UNSIGNED = 60.0
"""Seconds before another try where the key is missing from which secrets are made."""
FAREWELL = 0.5
"""Seconds that a worker which stops waits for its requests, and then for the database."""

log = get_logger("dingrelay.webhooks")


class WebhookDispatcher(Work):
    """Carries notices for as long as it has the lease.

    Args:
        redis: where the ends of jobs are read.
        publisher: publishes the tasks of ``celery://`` endpoints.
        database: with endpoints, notices and deliveries.
        settings: how long an endpoint may fail, and notices are kept.
        now: Redis's time.
    """

    database_away = SQLAlchemyError

    def __init__(
        self,
        redis: Redis,
        publisher: Publisher,
        database: Database,
        settings: Settings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        self._redis = redis
        self._endings = Endings(redis, WEBHOOKS)
        self._deliverer = Deliverer(publisher, settings)
        self._database = database
        self._settings = settings
        self._now = now
        self._ready = False
        self._unsigned: dict[str, float] = {}
        self._shown: set[str] = set()
        self.begin("")

    def begin(self, holder: str) -> None:
        """The lease is this worker's again, or no more with ""."""
        super().begin(holder)
        self._purge_at = self._beat_at = -1.0
        if not holder:
            self._deliverer.give_back()
        WEBHOOK_LAG_SECONDS.set(0)  # of another worker by now
        self._show_no_more(self._shown)

    async def close(self) -> None:
        """Write down what requests came to; what is under way is due again at once."""
        await self._deliverer.close(FAREWELL)
        if self._ready:
            with suppress(SQLAlchemyError, TimeoutError):
                async with asyncio.timeout(FAREWELL), self._database.write(WRITER) as connection:
                    await self._settle_outcomes(connection)

    async def tick(self) -> float | None:
        """One turn.

        Returns:
            Seconds until the next one; None if there is no endpoint, and nothing to pass on.

        Raises:
            SQLAlchemyError: the database is away.
            RedisError: Redis is away.
        """
        self._step()
        self._ready = self._ready or await self._database.has(DeliveryRow)
        page = await self._endings.read(AT_ONCE)
        if not self._ready:
            await self._pass(page)
            return None
        # The page is read before the endpoints: one added later needs no notice of these ends.
        async with self._database.read() as connection:
            subscribers = await endpoints.all_of(connection) if page.endings else []
            has_readers = bool(subscribers) or await outbox.has_readers(connection)
            due = await deliveries.open_endpoints(connection, self._now())
            tests = await deliveries.tests(connection, self._now())
        notices = await notices_of(
            self._redis,
            page.endings,
            lambda subject: any(subscriber.takes(subject) for subscriber in subscribers),
        )
        room = self._room(due)
        work = bool(notices or room or tests or self._deliverer.outcomes)
        if work:
            await self._turn(notices, room, tests)
        await self._pass(page)
        self._step()
        if has_readers:
            await self._keep_up()
        if work or len(page.endings) == AT_ONCE:
            return BUSY
        return IDLE if has_readers or self._deliverer.busy else None

    def _room(self, due: Mapping[str, bool]) -> dict[str, int]:
        """How many deliveries each endpoint may begin now: an equal share of a turn at most.

        How many are due is not known, and mostly one is: places of one endpoint that stay free would keep
        others out of the turn.
        """
        now = time.monotonic()
        share = max(1, AT_ONCE // max(1, len(due)))
        turn = random.sample(list(due.items()), min(len(due), AT_ONCE))
        free = {
            endpoint: min(share, self._deliverer.room(endpoint, probing=probing))
            for endpoint, probing in turn
            if self._unsigned.get(endpoint, 0.0) <= now
        }
        return {endpoint: most for endpoint, most in free.items() if most}

    async def _turn(
        self, notices: Sequence[Notice], room: Mapping[str, int], tests: Sequence[Delivery]
    ) -> None:
        now, began = self._now(), time.monotonic()
        lock = timedelta(seconds=self._settings.call_timeout) + deliverer.MARGIN
        async with self._database.write(WRITER) as connection:
            await outbox.write(connection, notices)
            written = len(self._deliverer.outcomes)
            changed, dead = await self._settle_outcomes(connection)
            # Failures of this turn may have opened a breaker: the next turn decides.
            failed = {after.id for _, after in changed if after.failures}
            may_begin = {id_: most for id_, most in room.items() if id_ not in failed}
            claimed = [*tests, *await deliveries.due(connection, may_begin, now)]
            claimed = [delivery._replace(claim=now + lock) for delivery in claimed]
            to_send = await deliveries.claim(connection, claimed) if claimed else {}
            ids = {delivery.endpoint for delivery in claimed}
            receivers = await endpoints.some(connection, ids) if ids else {}
        del self._deliverer.outcomes[:written]
        self._report(changed, dead)
        began_by = began + deliverer.MARGIN.total_seconds()
        for delivery in claimed:
            self._begin(delivery, to_send.get(delivery.notice), receivers, began_by)
        oldest = min((notice.at for notice in notices), default=now)
        WEBHOOK_LAG_SECONDS.set(max(0.0, (now - oldest).total_seconds()))

    def _begin(
        self,
        delivery: Delivery,
        notice: Notice | None,
        receivers: Mapping[str, StoredEndpoint],
        began_by: float,
    ) -> None:
        endpoint = receivers.get(delivery.endpoint)
        # Paused in this very moment, or removed: then its claim ends by itself.
        if notice is None or endpoint is None or not (endpoint.enabled or delivery.state == "test"):
            self._deliverer.outcomes.append((delivery, None))
            return
        try:
            secrets = endpoint.secrets(self._settings.webhook_keys, self._now())
        except SettingsError as error:
            self._unsigned[endpoint.id] = time.monotonic() + UNSIGNED
            log.error("webhook_unsigned", endpoint=endpoint.id, reason=str(error))  # noqa: TRY400
            failed = Receipt("failed", "settings", str(error))
            receipt = failed if delivery.state == "test" else None
            self._deliverer.outcomes.append((delivery, receipt))
            return
        self._deliverer.begin(deliverer.DeliveryWork(delivery, notice, endpoint, secrets, began_by))

    async def _settle_outcomes(
        self, connection: AsyncConnection
    ) -> tuple[Sequence[Change], Sequence[Delivery]]:
        return await deliveries.settle(connection, list(self._deliverer.outcomes), self._now())

    def _report(self, changed: Sequence[Change], dead: Sequence[Delivery]) -> None:
        for before, after in changed:
            if after.breaker and not before.breaker:
                WEBHOOK_BREAKERS.inc()
                log.warning("webhook_breaker_opened", endpoint=after.id, code=after.last_failure)
            if before.enabled and not after.enabled:
                WEBHOOK_ENDPOINTS_DISABLED.inc()
                log.error("webhook_disabled", endpoint=after.id, reason=after.reason)
        for delivery in dead:
            NOTICES_MISSED.labels("given up").inc()
            log.error("webhook_given_up", endpoint=delivery.endpoint, notice=delivery.notice)

    async def _pass(self, page: Page) -> None:
        """Ends that were read need not come again; report those that were lost unread."""
        if await self._endings.pass_(page) and page.missed:
            NOTICES_MISSED.labels("ends of jobs").inc(page.missed)
            log.error("endings_missed", entries=page.missed)

    async def _keep_up(self) -> None:
        """Work that is not done in every turn."""
        now = time.monotonic()
        if now >= self._beat_at:
            await self._beat()
            self._beat_at = now + BEAT
        if now >= self._purge_at:
            await self._purge()
            self._purge_at = now + PURGE

    async def _beat(self) -> None:
        """Show the health of the endpoints."""
        async with self._database.read() as connection:
            subscribers = await endpoints.all_of(connection)
            waiting = await deliveries.waiting(connection)
        now = self._now()
        for subscriber in subscribers:
            failing = (
                subscriber.failing_for(subscriber.failing_since, now)
                if subscriber.enabled
                else timedelta()
            )
            WEBHOOK_DELIVERIES.labels(subscriber.id).set(waiting.get(subscriber.id, 0))
            WEBHOOK_FAILING_SECONDS.labels(subscriber.id).set(max(0.0, failing.total_seconds()))
        self._show_no_more(self._shown - {endpoint.id for endpoint in subscribers})
        self._shown = {endpoint.id for endpoint in subscribers}

    def _show_no_more(self, removed: Collection[str]) -> None:
        """Leave endpoints out of the metrics that are removed, or looked at by another worker now."""
        for endpoint in removed:
            WEBHOOK_DELIVERIES.remove(endpoint)
            WEBHOOK_FAILING_SECONDS.remove(endpoint)
        self._shown = self._shown - set(removed)

    async def _purge(self) -> None:
        """Delete notices that are too old, and report those that an endpoint has not got."""
        before = self._now() - RETENTION
        while True:
            async with self._database.write(WRITER) as connection:
                deleted, missed = await deliveries.forget_before(connection, before)
            for endpoint, count in missed.items():
                NOTICES_MISSED.labels("endpoint away").inc(count)
                log.error("webhook_notices_missed", endpoint=endpoint, notices=count)
            if deleted < deliveries.SLICE:
                return
            self._step()


def of_leader(parts: LeaderParts, now: Now) -> WebhookDispatcher:
    """The dispatcher of a worker that leads."""
    redis, publisher = parts.records.redis, parts.publisher
    return WebhookDispatcher(redis, publisher, parts.database(), parts.settings, now=now)
