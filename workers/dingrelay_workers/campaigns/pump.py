"""Carries campaigns on: releases chunks as jobs, and writes into SQL how they ended.

Exactly once, whatever dies and whenever. Between SQL, which cannot forget, and Redis, which may:

* A chunk is made `queued` in SQL, that is committed, and then its job is enqueued. A crash between
  them leaves a queued chunk without a record, which the next tick enqueues again, under the same
  id. After the enqueue the record is there: enqueueing again changes nothing.
* How a job ended is committed to SQL, and then its record is deleted. A crash before the commit
  changes nothing; between the two, the next pump finds the chunk settled and forgets the record. A
  late wake-up of a job whose record is gone is no new job (`Kind.ephemeral`).
* So a queued chunk without a record was never enqueued, or Redis lost it, perhaps after its call.
  That is not guessed: on the Beijing day of its release it is repeated with the same bytes, which
  DingTalk drops for whoever has them, and is told as ambiguous; on a later day its people end
  unknown.
* Whether it is still queued is read after its record was missed, in the transaction: the deletion
  came after a commit, so a chunk whose record was deleted is seen to be settled.
* Two pumps at once, the older one merely slow: each transaction changes only chunks that are in the
  state it expects, under the campaign's writer lock, so an end counts once and a chunk is released
  once. What Redis is told (enqueue, forget) names the lease, and is refused to the older one: it can
  neither enqueue what the newer one has settled since, nor delete what that has enqueued.
* The database away: nothing is released and nothing deleted; records live for days.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.states import State as JobState
from dingrelay_workers.campaigns import chunks
from dingrelay_workers.campaigns.chunks import CANCELLED, Campaign, Chunk, Counts, Ending
from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.campaigns.queue import STOPPING, ChunkQueue, Found, unknown
from dingrelay_workers.campaigns.quiet import QuietHours
from dingrelay_workers.campaigns.window import Allowance, Share, Stride, Window
from dingrelay_workers.directory.database import Database
from dingrelay_workers.limiter import beijing
from dingrelay_workers.metrics import CAMPAIGN_CHUNKS, CAMPAIGN_RECIPIENTS
from dingrelay_workers.records import Records

BUSY, IDLE = 0.1, 0.25
"""Seconds between ticks, while chunks are under way and otherwise."""
ENOUGH_PEOPLE = 500
"""People whose outcome is known, before a share of failures among them tells anything."""
log = get_logger("dingrelay.campaigns")


@dataclass(slots=True)
class Turn:
    """What a tick does for one campaign.

    Attributes:
        queued: its chunks that have a job → when it was made.
        goes: whether it may send now.
        endings: chunks that ended for good.
        back: chunks whose jobs certainly made no call.
        lost: chunks whose jobs are gone.
        revived: jobs that were withdrawn after a call.
        stop: why it must be paused.
        free: chunks that may be released.
    """

    campaign: Campaign
    queued: Mapping[int, datetime]
    goes: bool
    endings: list[Ending] = field(default_factory=list[Ending])
    back: list[int] = field(default_factory=list[int])
    lost: list[int] = field(default_factory=list[int])
    revived: list[int] = field(default_factory=list[int])
    stop: str = ""
    free: int = 0

    @property
    def under_way(self) -> int:
        """Chunks that have a job which has not ended."""
        return len(self.queued) - len(self.endings) - len(self.back)

    @property
    def failures(self) -> bool:
        """Whether people have failed who had not before."""
        return any(ending.error for ending in self.endings)

    @property
    def changes(self) -> bool:
        """Whether SQL has to be told anything."""
        done = self.campaign.settled >= self.campaign.chunks and self.goes
        return bool(self.endings or self.back or self.lost or self.stop or self.free or done)


class Pump:
    """Carries on all campaigns of a database, for as long as it has the lease."""

    DATABASE_AWAY = SQLAlchemyError

    def __init__(
        self,
        records: Records,
        publisher: Publisher,
        database: Database,
        *,
        now: Callable[[], datetime] = beijing.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = ChunkQueue(records, publisher)
        self._database = database
        self._now = now
        self._clock = clock
        self._ready = False
        self.begin("")

    @property
    def holder(self) -> str:
        """The value of the lease under which it acts."""
        return self._queue.holder

    def begin(self, holder: str) -> None:
        """The lease is this worker's again: what was remembered may be out of date."""
        self._queue.holder = holder
        self._stride = Stride()
        self._windows: dict[str, Window] = {}
        self._allowances: dict[str, Allowance] = {}
        self._tidied: set[str] = set()
        self._running: set[str] = set()

    async def tick(self) -> float | None:
        """Carry every campaign on a little.

        Returns:
            Seconds until the next time; None if no campaign runs.

        Raises:
            SQLAlchemyError: the database is away.
            RedisError: Redis is away.
        """
        if not self._ready and not await self._has_tables():
            return None
        self._ready = True
        turns = await self._read()
        await self._tell_states(turns)
        if not turns:
            return None
        for turn in turns:
            await self._tidy(turn.campaign)
            await self._judge(turn)
        self._share(turns)
        for turn in turns:
            if turn.changes:
                await self._carry_on(turn)
            elif turn.revived:
                await self._queue.revive(turn.campaign, turn.revived)
        self._stride.keep(turn.campaign.id for turn in turns)
        CAMPAIGN_CHUNKS.set(sum(turn.under_way + turn.free for turn in turns))
        return BUSY if any(turn.goes and (turn.queued or turn.free) for turn in turns) else IDLE

    async def _has_tables(self) -> bool:
        """Whether campaigns can exist at all; looking must not create a database."""
        url = self._database.engine.url
        if self._database.is_sqlite and not _is_file(url.database):
            return False
        async with self._database.read() as connection:
            return await connection.run_sync(
                lambda sync: inspect(sync).has_table(CampaignRow.__tablename__)
            )

    async def _read(self) -> list[Turn]:
        now = self._now()
        async with self._database.read() as connection:
            return [
                Turn(
                    campaign,
                    await chunks.queued(connection, campaign.id),
                    campaign.state == State.RUNNING and _may_send(campaign, now),
                )
                for campaign in await chunks.active(connection)
            ]

    async def _tidy(self, campaign: Campaign) -> None:
        """Delete, once, the records that a pump left behind which died after its commit."""
        if campaign.id in self._tidied:
            return
        async with self._database.read() as connection:
            settled = await chunks.lately_settled(connection, campaign.id)
        await self._queue.forget(campaign, settled)
        self._tidied.add(campaign.id)

    async def _judge(self, turn: Turn) -> None:
        """Find out what became of the campaign's jobs."""
        if not turn.queued:
            return
        if not turn.goes:
            await self._queue.withdraw(turn.campaign, turn.queued)
        for found in await self._queue.look(turn.campaign, turn.queued):
            if turn.campaign.state == State.CANCELLED:
                turn.endings.append(found.last())
            else:
                self._judge_one(turn, found)

    def _judge_one(self, turn: Turn, found: Found) -> None:
        number = found.number
        match found.state:
            case None if beijing.day(turn.queued[number]) != beijing.day(self._now()):
                turn.endings.append(Ending(number, error=unknown("its job was lost")))
            case None:
                if turn.goes:
                    turn.lost.append(number)
            case JobState.CANCELLED if found.touched:
                if turn.goes:
                    turn.revived.append(number)
            case JobState.CANCELLED:
                turn.back.append(number)
            case JobState.DEAD if found.stops:
                turn.back.append(number)
                turn.stop = f"{STOPPING[found.error['class']]}: {found.error.get('message', '')}"
            case _:
                turn.endings.append(found.ending())

    def _share(self, turns: list[Turn]) -> None:
        """Give the free places of each app's window to its campaigns."""
        clock = self._clock()
        for app in {turn.campaign.app for turn in turns}:
            ours = [turn for turn in turns if turn.campaign.app == app]
            window = self._windows.setdefault(app, Window())
            window.settled(sum(len(turn.endings) for turn in ours), clock)
            free = window.size - sum(turn.under_way for turn in ours)
            asked = {
                turn.campaign.id: Share(turn.campaign.weight, self._most(turn, clock))
                for turn in ours
            }
            got = self._stride.share(free, asked)
            for turn in ours:
                turn.free = got.get(turn.campaign.id, 0)

    def _most(self, turn: Turn, clock: float) -> int:
        """Chunks of the campaign that could be released now."""
        campaign = turn.campaign
        if not turn.goes or turn.stop:
            return 0
        pending = campaign.chunks - campaign.settled - len(turn.queued) + len(turn.back)
        if campaign.rate is None:
            return pending
        allowance = self._allowances.setdefault(campaign.id, Allowance(clock))
        return min(pending, allowance.chunks(campaign.rate, campaign.chunk_size, clock))

    async def _carry_on(self, turn: Turn) -> None:
        """Write what ended, release what may go, in one transaction; then tell Redis."""
        campaign = turn.campaign
        async with self._database.write(f"campaign {campaign.id}") as connection:
            counts = await chunks.settle(connection, campaign.id, turn.endings)
            await chunks.give_back(connection, campaign.id, turn.back)
            if campaign.state == State.CANCELLED:
                await chunks.cancel_pending(connection, campaign.id)
            goes = await self._goes_on(connection, turn)
            released = await self._release(connection, turn) if goes else []
        _tell(campaign, turn.endings, counts)
        await self._queue.forget(
            campaign, [*(ending.number for ending in turn.endings), *turn.back]
        )
        await self._queue.enqueue(campaign, released)
        if turn.revived:
            await self._queue.revive(campaign, turn.revived)

    async def _goes_on(self, connection: AsyncConnection, turn: Turn) -> bool:
        """Whether the campaign runs on; it is paused or ended here if it is time to."""
        row = (
            await connection.execute(
                select(
                    CampaignRow.state,
                    CampaignRow.chunks,
                    CampaignRow.settled,
                    CampaignRow.accepted,
                    CampaignRow.left_out,
                    CampaignRow.failed,
                ).where(CampaignRow.id == turn.campaign.id)
            )
        ).one()
        known = row.accepted + row.left_out + row.failed
        share = row.failed / known if known >= ENOUGH_PEOPLE else 0
        if row.state != State.RUNNING:
            return False
        if row.settled >= row.chunks:
            values: dict[str, Any] = {"state": State.DONE, "ended_at": datetime.now(UTC)}
        elif turn.stop:
            values = {"state": State.PAUSED, "reason": turn.stop}
        elif turn.failures and share >= turn.campaign.error_share:
            reason = f"{row.failed} of {known} people failed"
            values = {"state": State.PAUSED, "reason": reason}
        else:
            return True
        await connection.execute(
            update(CampaignRow).where(CampaignRow.id == turn.campaign.id).values(values)
        )
        return False

    async def _release(self, connection: AsyncConnection, turn: Turn) -> list[Chunk]:
        again = await chunks.lost(connection, turn.campaign.id, turn.lost)
        fresh: list[Chunk] = []
        if turn.free:
            fresh = await chunks.release(connection, turn.campaign.id, turn.free, self._now())
        allowance = self._allowances.get(turn.campaign.id)
        if allowance is not None:
            allowance.spend(sum(len(chunk.users) for chunk in fresh))
        return [*again, *fresh]

    async def _tell_states(self, turns: list[Turn]) -> None:
        """One line for each campaign that has begun to run, or stopped."""
        running = {turn.campaign.id for turn in turns if turn.campaign.state == State.RUNNING}
        for campaign in running - self._running:
            log.info("campaign", campaign=campaign, state=State.RUNNING)
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
                log.info("campaign", campaign=row.id, state=row.state, reason=row.reason)


def _tell(campaign: Campaign, endings: list[Ending], counts: Counts) -> None:
    for outcome in ("accepted", "left_out", "failed", "cancelled"):
        if people := getattr(counts, outcome):
            CAMPAIGN_RECIPIENTS.labels(campaign.app, outcome).inc(people)
    for ending in endings:
        if ending.error and ending.error != CANCELLED:
            reason = ending.error.get("message", "")
            log.warning("chunk", campaign=campaign.id, number=ending.number, reason=reason)


def _is_file(path: str | None) -> bool:
    return path is not None and Path(path).is_file()


def _may_send(campaign: Campaign, now: datetime) -> bool:
    if campaign.start_at is not None and now < campaign.start_at:
        return False
    return QuietHours.parse(campaign.quiet).ends(now) is None
