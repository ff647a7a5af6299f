"""Carries campaigns on: releases chunks as jobs, and writes into SQL how they ended.

Exactly once, whatever dies and whenever. Between SQL, which cannot forget, and Redis, which may:

* A chunk is made `queued` in SQL, that is committed, and then its job is enqueued. A crash between
  them leaves a queued chunk without a record, which the next tick enqueues again, under the same
  id. After the enqueue the record is there: enqueueing again changes nothing.
* How a job ended is committed to SQL, and then its record is deleted. A crash before the commit
  changes nothing; between the two, the next dispatcher finds the chunk settled and forgets the
  record. A late wake-up of a job whose record is gone is no new job (`Kind.ephemeral`).
* So a queued chunk without a record was never enqueued, or Redis lost it, perhaps after its call.
  That is not guessed: on the Beijing day of its release it is repeated with the same bytes, which
  DingTalk drops for recipients that have them, and is reported as ambiguous; on a later day its
  people end unknown. A delayed repeat is never given back: a new release would be no repeat.
* Whether it is still queued is read after its record was missed, in the transaction: the deletion
  came after a commit, so a chunk whose record was deleted is seen to be settled.
* Two dispatchers at once, the older one merely slow: each release of a chunk has a generation, in
  its row and in its job's id. What a dispatcher found out of one release is written only while that
  release stands, so it can neither end, give back nor repeat a later one. Each transaction goes by
  what it reads under the campaign's writer lock: its state, its rate, its failures. Writes to Redis
  (enqueue, forget) name the lease, and are refused from the older dispatcher.
* A commit whose answer was lost: what it released is enqueued by the next tick, and the records of
  what it settled are looked for and deleted.
* The database away: nothing is released and nothing deleted; records live for days.

Time is Redis's: the workers' clocks may differ.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_producers.store.states import State as JobState
from dingrelay_tasks import beijing
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import chunks, notices, pace, removal, review
from dingrelay_workers.campaigns.chunks import CANCELLED, Chunk, ChunkEnding, Counts, Release
from dingrelay_workers.campaigns.models import NOT_READY, CampaignRow, State
from dingrelay_workers.campaigns.pace import Latest, ShareRequest, Stride, Window
from dingrelay_workers.campaigns.queue import STOPPING, ChunkQueue, Found
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.maintenance.leader import LeaderParts, Now, Work
from dingrelay_workers.metrics import (
    CAMPAIGN_CHUNKS,
    CAMPAIGN_RECIPIENTS,
    CAMPAIGNS,
    CAMPAIGNS_PAUSED,
    OUTCOMES,
)
from dingrelay_workers.store.records import Records


@dataclass(slots=True)
class CampaignTick:
    """One campaign in one tick of the dispatcher.

    Attributes:
        queued: its chunks that have a job → when it was made.
        goes: whether it may send now.
        endings: chunks that ended for good.
        back: chunks whose jobs certainly made no call.
        lost: chunks whose jobs are gone.
        revived: jobs that were withdrawn after a call, or stopped: they are carried on with the campaign.
        stop: why it must be paused.
        free: chunks that may be released.
        clock_stepped: the moment from which its rate is counted has not come yet.
    """

    campaign: CampaignRow
    queued: Mapping[Release, datetime]
    goes: bool
    endings: list[ChunkEnding] = field(default_factory=list[ChunkEnding])
    back: list[Release] = field(default_factory=list[Release])
    lost: list[Release] = field(default_factory=list[Release])
    revived: list[Release] = field(default_factory=list[Release])
    stop: str = ""
    free: int = 0
    clock_stepped: bool = False

    @property
    def under_way(self) -> int:
        """Chunks that have a job which has not ended."""
        return len(self.queued) - len(self.endings) - len(self.back)

    @property
    def busy(self) -> bool:
        """Whether it has more to do at once."""
        cancelled = self.campaign.state == State.CANCELLED and not self.queued
        return cancelled or (self.goes and bool(self.queued or self.free))

    @property
    def over(self) -> list[Release]:
        """The releases whose records are of no use once SQL knows."""
        return [*(ending.release for ending in self.endings), *self.back]

    @property
    def changes(self) -> bool:
        """Whether SQL has to be written or read."""
        done = self.campaign.settled >= self.campaign.chunks and self.goes
        done = done or self.campaign.state == State.CANCELLED
        has_outcomes = self.over or self.lost or self.revived
        return bool(has_outcomes or self.stop or self.free or self.clock_stepped or done)

    def sort(self, job: Found, now: datetime) -> None:
        """Sort one chunk's job in by what became of it, at Redis's present time."""
        release = job.release
        match job.state:
            case None if beijing.day(self.queued[release]) != beijing.day(now):
                self.endings.append(job.lost())
            case None:
                if self.goes:
                    self.lost.append(release)
            case JobState.CANCELLED if job.touched:
                if self.goes:
                    self.revived.append(release)
            case JobState.CANCELLED:
                self.back.append(release)
            case JobState.DEAD if job.too_large:
                # The limit was lowered since it was released: it is split before the next time.
                self.back.append(release)
                log.warning("chunk_too_large", campaign=self.campaign.id, number=release.number)
            case JobState.DEAD if job.stops:
                # One that repeats a lost call waits for the campaign to go on, like one that was withdrawn.
                (self.revived if job.touched else self.back).append(release)
                self.stop = en("{}: {}", STOPPING[job.error["class"]], job.error.get("message", ""))
            case _:
                self.endings.append(job.ending())


BUSY, IDLE = 0.1, 0.25
"""Seconds between ticks, while chunks are under way and otherwise."""
CANCELLING = 0.1
"""Seconds for which one transaction ends chunks of a cancelled campaign, about: the other campaigns wait for it."""
SHOWN_EVERY = 5.0
"""Seconds between two looks at all campaigns for the metrics: one cheap query."""
REMOVE_EVERY = 1.0
"""Seconds between two looks for campaigns that are being deleted, while others run and nothing is left of any."""
EXPIRE_EVERY = 3600.0
"""Seconds between two looks for campaigns that have been kept for long enough."""
LOOK_BACK = timedelta(hours=1)
"""Age of an ended campaign whose records are still looked for: a dispatcher that died was succeeded long ago."""

log = get_logger("dingrelay.campaigns")


class Dispatcher(Work):
    """Carries on all campaigns of a database, for as long as it has the lease."""

    database_away = SQLAlchemyError

    def __init__(
        self,
        records: Records,
        publisher: Publisher,
        database: Database,
        *,
        settings: CampaignSettings,
        users_per_call: Callable[[str], int],
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._queue = ChunkQueue(records, publisher)
        self._database = database
        self._settings = settings
        self._users_per_call = users_per_call
        self._now = now
        self._clock = clock
        self._ready = False
        self._failed: set[str] = set()
        self.begin("")

    def begin(self, holder: str) -> None:
        """The lease is this worker's again: what was remembered may be out of date."""
        super().begin(holder)
        self._queue.holder = holder
        self._stride = Stride()
        self._windows: dict[str, Window] = {}
        self._tidied: set[str] = set()
        self._looked_back = False
        self._unsent: set[tuple[str, Release]] = set()
        self._running: set[str] = set()
        self._show_at = self._expire_at = self._remove_at = -1.0
        # Campaigns of another worker are in its metrics.
        CAMPAIGNS.series = {}
        CAMPAIGN_CHUNKS.set(0)

    async def tick(self) -> float | None:
        """Advance every campaign a little.

        Returns:
            Seconds until the next time; None if no campaign runs, and none is being deleted.

        Raises:
            SQLAlchemyError: the database is away.
            RedisError: Redis is away.
        """
        if not self._ready and not await self._database.has(CampaignRow):
            return None
        self._ready = True
        ticks = await self._read()
        await self._log_states(ticks)
        await self._show()
        if not self._looked_back:
            await self._look_back()
        await self._expire()
        removing = (not ticks or time.monotonic() >= self._remove_at) and await self._remove_some()
        if not ticks:
            CAMPAIGN_CHUNKS.set(0)
            return BUSY if removing else None
        for tick in ticks:
            await self._tidy(tick.campaign)
            await self._sort_jobs(tick)
            self._step()
        self._share(ticks)
        # A campaign that can't be written must not keep the others waiting behind it for ever.
        for tick in sorted(ticks, key=lambda tick: tick.campaign.id in self._failed):
            if tick.changes:
                await self._write(tick)
            self._step()
        running = [tick.campaign for tick in ticks]
        self._stride.keep(
            {campaign.id for campaign in running}, {_sender(campaign) for campaign in running}
        )
        CAMPAIGN_CHUNKS.set(sum(tick.under_way + tick.free for tick in ticks))
        return BUSY if any(tick.busy for tick in ticks) else IDLE

    async def _show(self) -> None:
        """Keep what the metrics show of campaigns current."""
        if time.monotonic() < self._show_at:
            return
        async with self._database.read() as connection:
            CAMPAIGNS.series = await chunks.standing(connection)
        self._show_at = time.monotonic() + SHOWN_EVERY

    async def _read(self) -> list[CampaignTick]:
        self._step()
        now = self._now()
        async with self._database.read() as connection:
            return [
                CampaignTick(
                    campaign,
                    await chunks.queued(connection, campaign.id),
                    campaign.state == State.RUNNING and pace.may_send(campaign, now),
                )
                for campaign in await chunks.active(connection)
            ]

    async def _tidy(self, campaign: CampaignRow) -> None:
        """Delete, once, the records that a dispatcher left behind which died after its commit."""
        if campaign.id in self._tidied:
            return
        async with self._database.read() as connection:
            over = await chunks.left_behind(connection, campaign.id)
        await self._queue.forget(campaign, over)
        self._tidied.add(campaign.id)

    async def _look_back(self) -> None:
        """Do so for campaigns whose last commit was their end."""
        async with self._database.read() as connection:
            ended = await chunks.recently_ended(connection, self._now() - LOOK_BACK)
        for campaign in ended:
            await self._tidy(campaign)
        self._looked_back = True

    async def _expire(self) -> None:
        """Hide campaigns that have been kept for long enough."""
        if not self._settings.keep_days or time.monotonic() < self._expire_at:
            return
        before = self._now() - timedelta(days=self._settings.keep_days)
        while await removal.expire(self._database, before) == removal.PAGE:
            self._step()
        self._expire_at = time.monotonic() + EXPIRE_EVERY

    async def _remove_some(self) -> bool:
        """Delete one page of what is left of a campaign; whether there was one.

        Only one: running campaigns wait for it.
        """
        async with self._database.read() as connection:
            leftovers = await removal.leftovers(connection)
        if leftovers:
            await removal.remove_some(self._database, leftovers[0], seconds=0.0)
            self._step()
        else:
            self._remove_at = time.monotonic() + REMOVE_EVERY
        return bool(leftovers)

    async def _sort_jobs(self, tick: CampaignTick) -> None:
        """Find out what became of the campaign's jobs."""
        if not tick.queued:
            return
        if not tick.goes:
            await self._queue.withdraw(tick.campaign, tick.queued)
        for job in await self._queue.look(tick.campaign, tick.queued):
            if tick.campaign.state == State.CANCELLED:
                tick.endings.append(job.last())
            else:
                tick.sort(job, self._now())

    def _share(self, ticks: list[CampaignTick]) -> None:
        """Give the free places of each app's window to its campaigns."""
        clock = self._clock()
        for app in {tick.campaign.app for tick in ticks}:
            app_ticks = [tick for tick in ticks if tick.campaign.app == app]
            window = self._windows.setdefault(app, Window())
            window.settled(sum(len(tick.endings) for tick in app_ticks), clock)
            free = window.size - sum(tick.under_way for tick in app_ticks)
            requests = {
                tick.campaign.id: ShareRequest(
                    _sender(tick.campaign), tick.campaign.weight, self._most(tick)
                )
                for tick in app_ticks
            }
            got = self._stride.share(free, requests)
            for tick in app_ticks:
                tick.free = got.get(tick.campaign.id, 0)

    def _most(self, tick: CampaignTick) -> int:
        """Chunks of the campaign that could be released now."""
        campaign, now = tick.campaign, self._now()
        if not tick.goes or tick.stop:
            return 0
        tick.clock_stepped = campaign.rate_at is not None and campaign.rate_at > now
        pending = campaign.chunks - campaign.settled - len(tick.queued) + len(tick.back)
        return pace.allowed(campaign, now, pending, tick.under_way)

    async def _write(self, tick: CampaignTick) -> None:
        """Commit and enqueue; after a failure SQL may be committed and Redis not yet updated."""
        campaign = tick.campaign
        self._failed.add(campaign.id)
        self._tidied.discard(campaign.id)
        self._looked_back = False
        await self._carry_on(tick)
        self._tidied.add(campaign.id)
        self._failed.discard(campaign.id)
        self._looked_back = True

    async def _carry_on(self, tick: CampaignTick) -> None:
        """Write what ended, release what may go, in one transaction; then tell Redis."""
        campaign = tick.campaign
        async with self._database.write(f"campaign {campaign.id}") as connection:
            counts = await chunks.settle(connection, campaign.id, tick.endings)
            await chunks.give_back(connection, campaign.id, tick.back)
            now = await chunks.read(connection, campaign.id)
            if now is None:  # ended by a later dispatcher, and deleted
                return
            if now.state == State.CANCELLED:
                await chunks.cancel_pending(connection, campaign.id, CANCELLING)
            goes = await self._goes_on(connection, tick, now, counts)
            released = await self._release(connection, tick, now) if goes else []
        _report(campaign, tick.endings, counts)
        await self._queue.forget(campaign, tick.over)
        self._unsent -= {(campaign.id, chunk.release) for chunk in released}
        await self._queue.enqueue(campaign, released)
        await self._queue.revive(campaign, tick.revived)

    async def _goes_on(
        self, connection: AsyncConnection, tick: CampaignTick, campaign: CampaignRow, counts: Counts
    ) -> bool:
        """Whether the campaign runs on; it is paused or ended here if it is time to."""
        latest = Latest(campaign.recent_people, campaign.recent_failed).after(counts, campaign)
        values: dict[str, Any] = {}
        if tick.endings:
            values = {"recent_people": latest.people, "recent_failed": latest.failed}
        goes = False
        if campaign.state != State.RUNNING:
            pass
        elif campaign.settled >= campaign.chunks > 0:
            values |= {"state": State.DONE, "ended_at": self._now()}
        elif stop := tick.stop or latest.stop(counts, campaign):
            values |= {"state": State.PAUSED, "reason": chunks.storable(stop)}
        elif problem := await self._refusal(connection, tick, campaign):
            values |= {"state": State.DRAFT, "started_at": None, "reason": problem}
        else:
            goes = True
            if campaign.admitted_at is None:
                values["admitted_at"] = self._now()
        if values:
            await change_rows(connection, CampaignRow, CampaignRow.id == campaign.id, **values)
        if "state" in values:
            if values["state"] in {State.PAUSED, State.DRAFT}:
                CAMPAIGNS_PAUSED.inc()
            await notices.write(connection, campaign.id, campaign.state, self._now())
        return goes

    async def _refusal(
        self, connection: AsyncConnection, tick: CampaignTick, campaign: CampaignRow
    ) -> str | None:
        """Why a campaign must not make its first call."""
        if not campaign.chunks:  # 0.2.0 starts every draft
            return NOT_READY
        # One that 0.2.0 carried on was not admitted.
        begun = campaign.calls or campaign.accepted or campaign.left_out or campaign.failed
        if campaign.admitted_at is not None or begun or tick.queued:
            return None
        return await review.refusal(self._settings, connection, campaign, self._now())

    async def _release(
        self, connection: AsyncConnection, tick: CampaignTick, campaign: CampaignRow
    ) -> list[Chunk]:
        again = await chunks.lost(connection, campaign.id, tick.lost)
        # Chunks that this dispatcher released and never enqueued have certainly made no call.
        again = [
            replace(chunk, repeated=(campaign.id, chunk.release) not in self._unsent)
            for chunk in again
        ]
        now = self._now()
        fresh: list[Chunk] = []
        most = pace.allowed(campaign, now, tick.free, tick.under_way)
        if most and pace.may_send(campaign, now):
            await chunks.split(connection, campaign.id, most, self._users_per_call(campaign.app))
            fresh = await chunks.release(connection, campaign.id, most, now)
        if campaign.rate is not None and (fresh or tick.clock_stepped):
            people = pace.allowance(campaign, now).people - sum(len(chunk.users) for chunk in fresh)
            of_campaign = CampaignRow.id == campaign.id
            await change_rows(connection, CampaignRow, of_campaign, rate_credit=people, rate_at=now)
        self._unsent |= {(campaign.id, chunk.release) for chunk in fresh}
        return [*again, *fresh]

    async def _log_states(self, ticks: list[CampaignTick]) -> None:
        """One line for each campaign that has begun to run, or stopped."""
        running = {tick.campaign.id for tick in ticks if tick.campaign.state == State.RUNNING}
        for campaign in running - self._running:
            log.info("campaign_state_changed", campaign=campaign, state=State.RUNNING)
        stopped = self._running - running
        self._running = running
        if not stopped:
            return
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(CampaignRow.id, CampaignRow.state, CampaignRow.reason).where(
                    CampaignRow.id.in_(stopped)
                )
            )
            for row in rows:
                log.info(
                    "campaign_state_changed", campaign=row.id, state=row.state, reason=row.reason
                )


def _sender(campaign: CampaignRow) -> tuple[str, str]:
    """The sender that a campaign shares its app's limits as."""
    return campaign.app, campaign.sender


def _report(campaign: CampaignRow, endings: list[ChunkEnding], counts: Counts) -> None:
    for outcome in OUTCOMES:
        if people := getattr(counts, outcome):
            CAMPAIGN_RECIPIENTS.labels(campaign.app, outcome).inc(people)
    for ending in endings:
        if ending.error and ending.error != CANCELLED:
            reason = ending.error.get("message", "")
            number = ending.release.number
            log.warning("chunk_failed", campaign=campaign.id, number=number, reason=reason)


def of_leader(parts: LeaderParts, now: Now) -> Dispatcher:
    """The dispatcher of a worker that leads."""
    return Dispatcher(
        parts.records,
        parts.publisher,
        parts.database(),
        settings=parts.settings.campaigns,
        users_per_call=parts.users_per_call,
        now=now,
    )
