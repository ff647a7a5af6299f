"""The campaigns as every door shows them."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.campaign_documents import (
    CampaignPreview,
    CampaignStatus,
    FirstRecipient,
    Plan,
)
from dingrelay_producers.client.filters import CampaignFilter, CampaignSought
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.campaigns import estimate, removal, review, sources
from dingrelay_workers.campaigns.arrivals import NO_ARRIVALS, Arrivals, arrivals_of
from dingrelay_workers.campaigns.audience import UNWATCHED, CreationProgress
from dingrelay_workers.campaigns.calls import KEPT, FollowUp, FollowUpPlan
from dingrelay_workers.campaigns.documents import CampaignSpec
from dingrelay_workers.campaigns.estimate import Month
from dingrelay_workers.campaigns.models import HIDDEN, CampaignRow, ChunkRow, State
from dingrelay_workers.campaigns.opening import FileReaders
from dingrelay_workers.campaigns.reach import (
    APPROVE,
    READ,
    WRITE,
    check_left_out,
    find_permitted,
    permitted_sender,
)
from dingrelay_workers.campaigns.report import (
    CampaignPerson,
    CampaignReport,
    Place,
    Report,
    summary_of,
)
from dingrelay_workers.campaigns.review import CampaignReview
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.campaigns.waiting import why_it_waits
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import opened
from dingrelay_workers.store.connections import impatient_redis


class CampaignReads:
    """Reads campaigns, for the actor of the present task: one that is not theirs is not there (`CampaignNotFound`).

    Without a database, or Redis, it opens connections for each call, since the caller's event loop lives no longer.

    Args:
        settings: of this process.
        database: of a process that serves many callers, whose tables are up to date; for its event loop only.
        redis: of such a process.
    """

    def __init__(
        self, settings: Settings, database: Database | None = None, redis: Redis | None = None
    ) -> None:
        self._settings = settings
        self._database = database
        self._redis = redis
        self._readers = FileReaders(settings, database)

    async def preview(
        self, plan: Plan | str, progress: CreationProgress = UNWATCHED
    ) -> CampaignPreview:
        """The estimated cost of a plan, or of the campaign with this id: of its people, or of those that its draft names."""

        async def preview(database: Database) -> CampaignPreview:
            if isinstance(plan, str):
                await _find(database, plan, READ)
                row, written = await sources.read(database, plan)
                if row.stage != CampaignStage.DRAFT:
                    return await estimate.of_ready(self._settings, database, row)
                planned = written.plan
            else:
                planned = await self._permitted(database, plan)
            return await estimate.of_plan(self._settings, database, planned, progress)

        return await self._readers.run(preview)

    async def plan_recall(self, campaign: str) -> FollowUpPlan:
        """Reach and cost of a recall."""
        async with self._reading(campaign) as (database, row):
            return await FollowUp(database).recall(row)

    async def plan_confirm(self, campaign: str, *, sample: int | None = None) -> FollowUpPlan:
        """Reach and cost of a delivery query."""
        async with self._reading(campaign) as (database, row):
            return await FollowUp(database).confirm(row, sample=sample)

    async def status(self, campaign: str, scope: str = READ) -> CampaignStatus:
        """How a campaign stands of which the actor may do what has this scope."""
        async with self._reading(campaign, scope) as (_, row):
            return CampaignStatus.model_validate(row)

    async def show(self, campaign: str) -> CampaignStatus:
        """How a campaign stands, and why it waits; without a reason where Redis is away. Of a draft also its message."""
        async with self._reading(campaign) as (database, row):
            status = CampaignStatus.model_validate(row)
            async with database.read() as connection:
                held = await review.problem_of(self._settings, connection, row)
            shown: dict[str, Any] = {"waits": held or await self._why_it_waits(row)}
            if row.stage == CampaignStage.DRAFT:
                _, written = await sources.read(database, campaign, file=False)
                shown["message"] = written.content.message
            return status.model_copy(update=shown)

    async def show_reviewed(self, campaign: str) -> tuple[CampaignStatus, CampaignReview]:
        """How a campaign and its approval stand, and why one waits that was started, as `show` says."""
        async with self._reading(campaign) as (database, row):
            async with database.read() as connection:
                reviewed = await review.review_of(self._settings, connection, row)
            shown = {"waits": await self._why_it_waits(row)}
            return CampaignStatus.model_validate(row).model_copy(update=shown), reviewed

    async def _why_it_waits(self, row: CampaignRow) -> str:
        with suppress(ServiceUnavailable):
            async with impatient_redis(self._settings, self._redis) as redis:
                return await why_it_waits(self._settings, redis, row, clock.now())
        return ""

    async def list(
        self,
        campaign_filter: CampaignFilter,
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
    ) -> Sequence[CampaignStatus]:
        """The latest campaigns that the actor sees, latest first, without what drafts say; see `CampaignStore.list`.

        Who approves sees those that were submitted for it, too, by anybody.
        """
        chosen, submitted = campaign_filter.of_actor(READ), current_reach().permits(APPROVE)
        async with self._opened() as database:
            campaigns = CampaignStore(database)
            rows = await campaigns.list(chosen, limit=limit, after=after, submitted=submitted)
        alone: dict[str, Any] = {"preview": None, "skipped": []}
        return [CampaignStatus.model_validate(row).model_copy(update=alone) for row in rows]

    async def review(self, campaign: str) -> CampaignReview:
        """How its approval stands."""
        async with self._reading(campaign) as (database, row), database.read() as connection:
            return await review.review_of(self._settings, connection, row)

    async def reviews(self, campaigns: Collection[str]) -> Mapping[str, str]:
        """How the approvals of campaigns stand that were asked for: ``asked``, ``approved`` or ``rejected``."""
        async with self._opened() as database:
            return await review.states(database, campaigns)

    async def waiting_reviews(self, apps: Collection[str] | None) -> Sequence[str]:
        """Campaigns of these apps, or of any, that wait for an approval which the person who acts may give."""
        async with self._opened() as database:
            return await review.waiting(self._settings, database, apps)

    async def waiting(
        self, apps: Collection[str] | None, *, limit: int
    ) -> Sequence[CampaignStatus]:
        """The first of `waiting_reviews`."""
        async with self._opened() as database:
            ids = (await review.waiting(self._settings, database, apps))[:limit]
            query = select(CampaignRow).where(CampaignRow.id.in_(ids))
            async with database.read() as connection, AsyncSession(connection) as session:
                rows = {row.id: row for row in await session.scalars(query)}
        return [CampaignStatus.model_validate(rows[id_]) for id_ in ids if id_ in rows]

    async def decided_reviews(self) -> Sequence[tuple[str, str, str, str]]:
        """Id, name, decision and reason of the campaigns of the person who acts that were decided and wait for them."""
        async with self._opened() as database:
            rows = await review.decided(self._settings, database)
        return [(row.id, row.name, row.decision, row.reason) for row in rows]

    async def check_deletable(self, campaign: str) -> CampaignStatus:
        """Raise as `delete` would; the campaign that it would delete."""
        async with self._opened() as database, database.read() as connection:
            row = await find_permitted(connection, campaign, WRITE, hidden=True)
            await removal.check_deletable(connection, row)
            return CampaignStatus.model_validate(row)

    async def report(self, campaign: str) -> CampaignReport:
        """The outcomes of its people in figures."""
        async with self._reading(campaign) as (database, _):
            return await Report(database).summary(campaign)

    async def figures(self, campaign: str) -> tuple[CampaignReport, Arrivals, datetime | None]:
        """Its report, when its calls were taken, and when it is through at its present pace, if it runs and calls leave."""
        async with self._opened() as database, database.snapshot() as connection:
            row = await find_permitted(connection, campaign, READ)
            report = await summary_of(connection, row)
            arrivals = await arrivals_of(connection, campaign) if row.started_at else NO_ARRIVALS
            ends_at = None
            if row.state == State.RUNNING:
                ends_at = await estimate.ends_at(connection, row, clock.now())
            return report, arrivals, ends_at

    async def first_recipients(self, campaign: str) -> Sequence[FirstRecipient]:
        """First people of a campaign, and their messages."""
        async with self._reading(campaign) as (database, row):
            return await estimate.first_recipients(database, row)

    async def people(
        self,
        campaign: str,
        outcome: CampaignSought | None = None,
        *,
        behind: Place | None = None,
        limit: int,
    ) -> tuple[Sequence[CampaignPerson], Place | None]:
        """Some of them behind a place; and the last one's place, None where there are no more."""
        async with self._reading(campaign) as (database, _):
            results, last = await Report(database).people(
                campaign, outcome, behind=behind, limit=limit
            )
        return [CampaignPerson.model_validate(result._asdict()) for result in results], last

    async def follow_ups(self, campaigns: Collection[str]) -> Mapping[tuple[str, str], datetime]:
        """When what was sent was last taken back, or asked about: campaign, ``recall`` or ``confirm`` → the moment."""
        query = (
            select(AuditRow.object, AuditRow.action, func.max(AuditRow.at).label("at"))
            .where(AuditRow.object.in_(campaigns), AuditRow.action.in_(("recall", "confirm")))
            .group_by(AuditRow.object, AuditRow.action)
        )
        async with self._opened() as database, database.read() as connection:
            return {
                (row.object, row.action): row.at.replace(tzinfo=row.at.tzinfo or UTC)
                for row in await connection.execute(query)
            }

    async def recalled(self, campaigns: Collection[str]) -> Mapping[str, tuple[int, int]]:
        """How many calls of these campaigns DingTalk took, and how many of those are taken back."""
        counts = func.count(ChunkRow.task_id), func.count(ChunkRow.recalled_at)
        query = select(ChunkRow.campaign, *counts).where(ChunkRow.campaign.in_(campaigns))
        async with self._opened() as database, database.read() as connection:
            rows = await connection.execute(query.group_by(ChunkRow.campaign))
            return {campaign: (calls, recalled) for campaign, calls, recalled in rows}

    async def progress(self, campaign: str, verb: str, since: datetime) -> tuple[int, int]:
        """People of the calls that a `recall`, or a `confirm`, of this moment is through with, and of all that it is about."""
        at = {"recall": ChunkRow.recalled_at, "confirm": ChunkRow.confirmed_at}[verb]
        through = case((at >= since, ChunkRow.accepted), else_=0)
        about = [ChunkRow.campaign == campaign, ChunkRow.task_id.is_not(None)]
        about.append(or_(ChunkRow.called_at.is_(None), ChunkRow.called_at > since - KEPT))
        if verb == "recall":
            about.append(or_(at.is_(None), at >= since))
        query = select(func.sum(through), func.sum(ChunkRow.accepted)).where(*about)
        async with self._opened() as database, database.read() as connection:
            done, every = (await connection.execute(query)).one()
            return int(done or 0), int(every or 0)

    async def scheduled(self) -> Sequence[tuple[str, str, datetime]]:
        """Id, name and time of the actor's campaigns that are sent at a time to come, the next one first."""
        columns = (
            getattr(CampaignRow, name) for name in ("id", "name", "start_at", "app", "sender")
        )
        waits = CampaignRow.state == State.RUNNING, CampaignRow.start_at > clock.now()
        query = select(*columns).where(*waits).order_by(CampaignRow.start_at, CampaignRow.id)
        reach = current_reach()
        async with self._opened() as database, database.read() as connection:
            return [
                (row.id, row.name, row.start_at)
                for row in await connection.execute(query)
                if reach.reaches(READ, app=row.app, sender=row.sender)
            ]

    async def writers(self, campaigns: Collection[str]) -> Mapping[str, Sequence[str]]:
        """Writers of those of these campaigns that exist."""
        async with self._opened() as database, database.read() as connection:
            rows = await connection.execute(_among(campaigns))
            return {row.id: row.writers or () for row in rows}

    async def names(self, campaigns: Collection[str]) -> Mapping[str, str]:
        """Names of those of these campaigns that exist."""
        async with self._opened() as database, database.read() as connection:
            return {row.id: row.name for row in await connection.execute(_among(campaigns))}

    async def month_of(self, plan: FollowUpPlan) -> Month:
        """The month with the jobs' calls added."""
        async with impatient_redis(self._settings, self._redis) as redis:
            return await estimate.month_of(self._settings, redis, plan.app, plan.calls)

    async def _permitted(self, database: Database, plan: Plan) -> Plan:
        """A plan with its sender, once it is clear that the actor may have it.

        Raises:
            NotPermitted: they may not; names the field.
            ContractError: people of a campaign are left out that is not the actor's.
        """
        spec = CampaignSpec.of(plan)
        sender = permitted_sender(self._settings, spec.app, spec.sender)
        async with database.read() as connection:
            await check_left_out(connection, plan.get("without_campaigns") or ())
        return {**plan, "sender": sender}

    @asynccontextmanager
    async def _reading(
        self, campaign: str, scope: str = READ
    ) -> AsyncGenerator[tuple[Database, CampaignRow]]:
        """The database, and a campaign of which the actor may do what has this scope."""
        async with self._opened() as database:
            yield database, await _find(database, campaign, scope)

    def _opened(self) -> AbstractAsyncContextManager[Database]:
        return opened(self._settings, self._database)


async def _find(database: Database, campaign: str, scope: str) -> CampaignRow:
    async with database.read() as connection:
        return await find_permitted(connection, campaign, scope)


def _among(campaigns: Collection[str]) -> Select[str, str, list[str] | None]:
    """Id, name and writers of those of these campaigns that exist."""
    query = select(CampaignRow.id, CampaignRow.name, CampaignRow.writers)
    return query.where(CampaignRow.id.in_(campaigns), CampaignRow.state.not_in(HIDDEN))
