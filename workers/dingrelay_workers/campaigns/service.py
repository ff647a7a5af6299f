"""The campaigns: what the command line, the HTTP gateway and Python ask of them."""

import asyncio
import sqlite3
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.client.campaign_documents import (
    CampaignPreview,
    CampaignStatus,
    FirstRecipient,
    Plan,
)
from dingrelay_producers.client.filters import CampaignFilter, CampaignSought
from dingrelay_producers.enqueuing.connections import read_clock
from dingrelay_producers.errors import CampaignConflict, ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.message_send import MessageSend
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.campaigns import estimate, notices, removal, review, sources, testers
from dingrelay_workers.campaigns.audience import UNWATCHED, CreationProgress
from dingrelay_workers.campaigns.calls import FollowUp, FollowUpPlan
from dingrelay_workers.campaigns.estimate import Month
from dingrelay_workers.campaigns.models import HIDDEN, NOT_READY, CampaignRow, State
from dingrelay_workers.campaigns.people import approver, author
from dingrelay_workers.campaigns.report import (
    CampaignPerson,
    CampaignReport,
    Place,
    Report,
    Result,
)
from dingrelay_workers.campaigns.review import CampaignReview
from dingrelay_workers.campaigns.store import CampaignStore, find
from dingrelay_workers.campaigns.waiting import why_it_waits
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.database.errors import unusable
from dingrelay_workers.database.schema import migrate
from dingrelay_workers.maintenance.leader import WORK
from dingrelay_workers.store.connections import impatient_redis

READERS = 2
"""Campaigns of a process whose files are read at the same time; the others wait, their uploads complete on the disk."""
_T = TypeVar("_T")
Verb = Literal["start", "pause", "resume", "cancel"]

_RUNNING = frozenset({CampaignStage.SCHEDULED, CampaignStage.RUNNING})
_MOVES: Mapping[Verb, tuple[State, frozenset[CampaignStage]]] = {
    "start": (State.RUNNING, frozenset({CampaignStage.READY})),
    "pause": (State.PAUSED, _RUNNING),
    "resume": (State.RUNNING, frozenset({CampaignStage.PAUSED})),
    "cancel": (
        State.CANCELLED,
        frozenset({CampaignStage.READY, CampaignStage.PAUSED}) | _RUNNING,
    ),
}
"""Verb → the state that it leads to, and the stages from which it does."""


class CampaignService:
    """The campaigns. `CampaignRef` and `CampaignPlan` say what its methods mean.

    Without a database it opens connections for each call, since the caller's event loop lives no longer.

    Args:
        settings: of this process.
        database: of a process that serves many callers, whose tables are up to date; for its event loop only.
    """

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit.AuditService(settings, database)
        self._readers = FileReaders(settings, database)

    async def create(
        self, plan: Plan, campaign: str | None = None, progress: CreationProgress = UNWATCHED
    ) -> CampaignStatus:
        """Store a campaign that is ready with what its check finds, under this id if one is given."""

        async def create(store: CampaignStore) -> CampaignStatus:
            check = estimate.check(self._settings, store.database)
            by = author(self._settings)
            return await store.create(plan, campaign, progress, writers=[by], check=check)

        return await self._readers.run(create)

    async def preview(
        self, plan: Plan | str, progress: CreationProgress = UNWATCHED
    ) -> CampaignPreview:
        """The estimated cost of a plan, or of the campaign with this id: of its people, or of those that its draft names."""

        async def preview(store: CampaignStore) -> CampaignPreview:
            asked = plan
            if isinstance(asked, str):
                row, written = await sources.read(store.database, asked)
                if row.stage != CampaignStage.DRAFT:
                    return await estimate.of_ready(self._settings, store, asked)
                asked = written.plan
            return await estimate.of_plan(self._settings, store.database, asked, progress)

        return await self._readers.run(preview)

    async def status(self, campaign: str) -> CampaignStatus:
        """How a campaign stands."""
        async with self._opened() as store:
            return CampaignStatus.model_validate(await store.get(campaign))

    async def show(self, campaign: str) -> CampaignStatus:
        """How a campaign stands, and why it waits; without a reason where Redis is away. Of a draft also its message."""
        async with self._opened() as store:
            row = await store.get(campaign)
            status = CampaignStatus.model_validate(row)
            async with store.database.read() as connection:
                held = await review.problem_of(self._settings, connection, row)
            if held is None:
                with suppress(ServiceUnavailable):
                    async with impatient_redis(self._settings) as redis:
                        held = await why_it_waits(self._settings, redis, row, clock.now())
            shown: dict[str, Any] = {"waits": held or ""}
            if row.stage == CampaignStage.DRAFT:
                _, written = await sources.read(store.database, campaign, file=False)
                shown["message"] = written.content.message
            return status.model_copy(update=shown)

    async def list(
        self,
        chosen: CampaignFilter,
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
        submitted: bool = False,
    ) -> Sequence[CampaignStatus]:
        """The latest campaigns, latest first, without what drafts say; see `CampaignStore.list`."""
        async with self._opened() as store:
            rows = await store.list(chosen, limit=limit, after=after, submitted=submitted)
            alone: dict[str, Any] = {"preview": None, "skipped": []}
            return [CampaignStatus.model_validate(row).model_copy(update=alone) for row in rows]

    async def move(self, campaign: str, verb: Verb, version: int | None = None) -> None:
        """Let a campaign run that is ready, and may have to be approved; hold one, let it run on, or end it for good."""
        async with self._opened() as store, impatient_redis(self._settings) as redis:
            await move(self._settings, store.database, redis, campaign, verb, version)

    async def review(self, campaign: str) -> CampaignReview:
        """How its approval stands."""
        async with self._opened() as store, store.database.read() as connection:
            row = await find(connection, campaign)
            return await review.review_of(self._settings, connection, row)

    async def reviews(self, campaigns: Collection[str]) -> Mapping[str, str]:
        """How the approvals of campaigns stand that were asked for: ``asked``, ``approved`` or ``rejected``."""
        async with self._opened() as store:
            return await review.states(store, campaigns)

    async def waiting_reviews(self, user: str, apps: Collection[str] | None) -> Sequence[str]:
        """Campaigns of these apps, or of any, that wait for an approval which this person may give."""
        async with self._opened() as store:
            return await review.waiting(store, user, apps)

    async def request_review(self, campaign: str) -> MessageSend | None:
        """Ask for its approval; the job that sends a link to the reviewers, if there are some."""
        async with self._opened() as store:
            return await review.ask(self._settings, store, campaign, author(self._settings))

    async def approve(self, campaign: str, version: int | None = None) -> None:
        """Approve it, or this version of it only, as a person who did not write it."""
        by = approver(self._settings, campaign)
        async with self._opened() as store:
            await review.decide(store, campaign, "approved", by, version=version)

    async def reject(self, campaign: str, reason: str, version: int | None = None) -> None:
        """Reject it, or this version of it only; it does not start."""
        by = approver(self._settings, campaign)
        async with self._opened() as store:
            await review.decide(store, campaign, "rejected", by, reason, version)

    async def check_deletable(self, campaign: str) -> CampaignRow:
        """Raise as `delete` would; the campaign that it would delete."""
        async with self._opened() as store:
            return await removal.look(store.database, campaign)

    async def delete(
        self, campaign: str, *, wait: bool, on_rows: Callable[[int], None] | None = None
    ) -> None:
        """Delete a draft, or one that has ended; without `wait` the fleet deletes its rows."""
        async with self._opened() as store:
            await removal.hide(store.database, campaign)
            if wait:
                await removal.remove(store.database, campaign, on_rows)
            else:
                async with impatient_redis(self._settings) as redis:
                    await WORK.announce(redis)

    async def report(self, campaign: str) -> CampaignReport:
        """The outcomes of its people in figures."""
        async with self._opened() as store:
            return await Report(store.database).summary(campaign)

    async def first_recipients(self, campaign: str) -> Sequence[FirstRecipient]:
        """First people of a campaign, and their messages."""
        async with self._opened() as store:
            return await estimate.first_recipients(store, campaign)

    async def ends_at(self, campaign: str) -> datetime | None:
        """When it is through at its present pace, if it runs and calls leave."""
        async with self._opened() as store:
            return await estimate.ends_at(store, campaign, clock.now())

    async def results(
        self, campaign: str, outcome: CampaignSought | None = None
    ) -> AsyncIterator[Sequence[Result]]:
        """People of a campaign one by one, or those with an outcome, in pages; the audit records the export."""
        await self.note_export(campaign, outcome)
        async with self._opened() as store:
            async for page in Report(store.database).results(campaign, outcome):
                yield page

    async def people(
        self,
        campaign: str,
        outcome: CampaignSought | None = None,
        *,
        behind: Place | None = None,
        limit: int,
    ) -> tuple[Sequence[CampaignPerson], Place | None]:
        """Some of them behind a place; and the last one's place, None where there are no more."""
        async with self._opened() as store:
            found, last = await Report(store.database).people(
                campaign, outcome, behind=behind, limit=limit
            )
        return [CampaignPerson.model_validate(each._asdict()) for each in found], last

    async def recall(self, campaign: str) -> FollowUpPlan:
        """The jobs that take back what was sent."""
        async with self._opened() as store:
            return await FollowUp(store).recall(campaign)

    async def confirm(self, campaign: str, *, sample: int | None) -> FollowUpPlan:
        """The jobs that ask which people it reached."""
        async with self._opened() as store:
            return await FollowUp(store).confirm(campaign, sample=sample)

    async def note(self, campaign: str, action: str, plan: FollowUpPlan) -> None:
        """Write into the audit that these jobs are enqueued now."""
        after = {"people": plan.people, "calls": plan.calls}
        await self._audit.note(action, "campaign", [campaign], app=plan.app, after=after)

    async def follow_ups(self, campaigns: Collection[str]) -> Mapping[tuple[str, str], datetime]:
        """When what was sent was last taken back, or asked about: campaign, ``recall`` or ``confirm`` → the moment."""
        query = (
            select(AuditRow.object, AuditRow.action, func.max(AuditRow.at).label("at"))
            .where(AuditRow.object.in_(campaigns), AuditRow.action.in_(("recall", "confirm")))
            .group_by(AuditRow.object, AuditRow.action)
        )
        async with self._opened() as store, store.database.read() as connection:
            return {
                (row.object, row.action): row.at.replace(tzinfo=row.at.tzinfo or UTC)
                for row in await connection.execute(query)
            }

    async def note_export(self, campaign: str, outcome: CampaignSought | None = None) -> None:
        """Write into the audit that its people are handed out, or those with an outcome."""
        async with self._opened() as store:
            row = await store.get(campaign)
            after: dict[str, Any] = {"people": row.recipients}
            if outcome is not None:
                report = await Report(store.database).summary(campaign)
                counts = {**report.outcomes, "unread": report.delivery.unread}
                after = {"outcome": outcome, "people": counts[outcome]}
        await self._audit.note("export", "campaign", [campaign], app=row.app, after=after)

    async def writers(self, campaigns: Collection[str]) -> Mapping[str, Sequence[str]]:
        """Writers of those of these campaigns that exist."""
        query = select(CampaignRow.id, CampaignRow.writers).where(
            CampaignRow.id.in_(campaigns), CampaignRow.state.not_in(HIDDEN)
        )
        async with self._opened() as store, store.database.read() as connection:
            return {row.id: row.writers or () for row in await connection.execute(query)}

    async def month_of(self, plan: FollowUpPlan) -> Month:
        """The month with the jobs' calls added."""
        return await estimate.month_of(self._settings, plan.app, plan.calls)

    async def test(
        self,
        campaign: str,
        users: Sequence[str],
        fields: Mapping[str, str] | None,
        once: str | None = None,
    ) -> Contract:
        """The job that sends its message to testers, or to the person who acts, which is enqueued now: the audit says so."""
        to = testers.named_or_self(self._settings, users)
        async with self._opened() as store:
            job, marked = await FollowUp(store).test(campaign, to, fields, once)
            await testers.admit(self._settings, store.database, campaign, to, marked=marked)
        return job

    def _opened(self) -> AbstractAsyncContextManager[CampaignStore]:
        return opened_store(self._settings, self._database)


@asynccontextmanager
async def opened_store(
    settings: Settings, database: Database | None = None, *, migrated: bool = False
) -> AsyncGenerator[CampaignStore]:
    """The campaigns in their database, while the block runs.

    Args:
        settings: of this process.
        database: as of `CampaignService`.
        migrated: whether the tables are up to date without one.

    Raises:
        ServiceUnavailable: the database can't be used, or there is no room for temporary files.
    """
    if database is None:
        await read_clock(settings)
    if database is None and not migrated:
        await asyncio.to_thread(migrate, settings)
    opened = database or Database(settings.database)
    try:
        yield CampaignStore(opened)
    except SQLAlchemyError as error:
        raise unusable(error) from None
    except sqlite3.Error as error:
        # The directory's own errors are SQLAlchemy's: this is the staging of recipients.
        raise ServiceUnavailable(en("temporary files ($TMPDIR): {}", error)) from None
    finally:
        if database is None:
            await opened.dispose()


class FileReaders:
    """Does what works on files and on the database by turns.

    For many callers it does so in threads with loops of their own, a few at a time, and what has begun is finished.

    Args:
        settings: of this process.
        database: as of `CampaignService`.
    """

    def __init__(self, settings: Settings, database: Database | None) -> None:
        self._settings = settings
        self._shared = database is not None
        self._places = asyncio.Semaphore(READERS)

    async def run(self, work: Callable[[CampaignStore], Awaitable[_T]]) -> _T:
        """Run the work, and return its result."""
        if not self._shared:
            return await self._open(work)
        async with self._places:
            return await asyncio.to_thread(lambda: asyncio.run(self._open(work)))

    async def _open(self, work: Callable[[CampaignStore], Awaitable[_T]]) -> _T:
        async with opened_store(self._settings, migrated=self._shared) as store:
            return await work(store)


async def move(
    settings: Settings,
    database: Database,
    redis: Redis,
    campaign: str,
    verb: Verb,
    version: int | None = None,
) -> None:
    """Move a campaign to another state: its row only. Asking for its own state changes nothing.

    What follows from it is done by the leader of campaigns, which is signalled. With a version, that one is moved only.

    Raises:
        CampaignNotFound: there is none with this id.
        CampaignConflict: it can't come there from the stage it is in, needs an approval, or is of another version.
        SQLAlchemyError: the database is away, and nothing has changed.
        RedisError: the state has changed, and the fleet finds out by itself within seconds.
    """
    to, sources = _MOVES[verb]
    now = clock.now()
    async with database.write(f"campaign {campaign}") as connection:
        row = await find(connection, campaign)
        before, stage = State(row.state), row.stage
        review.check_version(row, version)
        if before != to:
            if stage not in sources:
                raise CampaignConflict(campaign, _refusal(stage, to))
            if verb == "start" and (problem := await review.problem_of(settings, connection, row)):
                raise CampaignConflict(campaign, problem)
            values: dict[str, Any] = {"state": to, "reason": ""}
            match verb:
                case "start":
                    values |= {"started_at": now, "named": None}
                case "resume":
                    values |= {"recent_people": 0.0, "recent_failed": 0.0}
                case "pause":
                    values["reason"] = en("asked for")
                case "cancel":
                    values |= {"reason": en("asked for"), "ended_at": now, "named": None}
            await change_rows(connection, CampaignRow, CampaignRow.id == campaign, **values)
            await notices.write(connection, campaign, before, now)
            await audit.record(
                connection,
                verb,
                "campaign",
                campaign,
                app=row.app,
                before={"state": before},
                after={"state": to},
            )
    await WORK.announce(redis)


def _refusal(stage: CampaignStage, to: State) -> str:
    if stage == CampaignStage.DRAFT:
        return NOT_READY
    return en("is {}, so it can't become {}", stage, to)
