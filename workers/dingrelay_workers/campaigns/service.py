"""The campaigns: their verbs, and what every door reads of them."""

import asyncio
import sqlite3
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Container,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.campaign_documents import (
    ALL_CALLS,
    ANY_VERSION,
    ApproveRequest,
    CampaignPreview,
    CampaignStatus,
    ConfirmRequest,
    FirstRecipient,
    Plan,
    RejectRequest,
    StartRequest,
    TestRequest,
)
from dingrelay_producers.client.filters import CampaignFilter, CampaignSought
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.enqueuing.connections import read_clock
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound, ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.campaigns import estimate, notices, removal, review, sources, testers
from dingrelay_workers.campaigns.audience import UNWATCHED, CreationProgress
from dingrelay_workers.campaigns.calls import FollowUp, FollowUpPlan, test_of
from dingrelay_workers.campaigns.documents import CampaignSpec, JobsDocument
from dingrelay_workers.campaigns.estimate import Month
from dingrelay_workers.campaigns.models import HIDDEN, LANE, NOT_READY, CampaignRow, State
from dingrelay_workers.campaigns.people import approver, author
from dingrelay_workers.campaigns.reach import (
    APPROVE,
    READ,
    WRITE,
    changing,
    check_left_out,
    find_permitted,
    id_for_request,
    permitted_sender,
)
from dingrelay_workers.campaigns.report import (
    CampaignPerson,
    CampaignReport,
    Place,
    Report,
    Result,
)
from dingrelay_workers.campaigns.review import CampaignReview, Decision
from dingrelay_workers.campaigns.store import CampaignStore, find
from dingrelay_workers.campaigns.waiting import why_it_waits
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.database.errors import unusable
from dingrelay_workers.database.schema import migrate
from dingrelay_workers.http.accepting import accept_jobs
from dingrelay_workers.maintenance.leader import WORK
from dingrelay_workers.store.connections import impatient_redis

READERS = 2
"""Campaigns of a process whose files are read at the same time; the others wait, their uploads complete on the disk."""
_T = TypeVar("_T")

_RUNNING = frozenset({CampaignStage.SCHEDULED, CampaignStage.RUNNING})
_CANCELLABLE = _RUNNING | {CampaignStage.READY, CampaignStage.PAUSED}
_ASKED_FOR = en("asked for")


class CampaignService:
    """The campaigns, for the actor of the present task. `CampaignRef` and `CampaignPlan` say what its methods mean.

    A campaign that is not the actor's is not there (`CampaignNotFound`). Without a database it opens connections for
    each call, since the caller's event loop lives no longer.

    Args:
        settings: of this process.
        database: of a process that serves many callers, whose tables are up to date; for its event loop only.
    """

    NOUN = "campaign"

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database
        self._readers = FileReaders(settings, database)

    @verb(scope=WRITE)
    async def create(self, plan: Plan, progress: CreationProgress = UNWATCHED) -> CampaignStatus:
        """Store a campaign that is ready with what its check finds; one only for a request that is repeated."""
        campaign = id_for_request()

        async def create(store: CampaignStore) -> CampaignStatus:
            if campaign is not None:
                with suppress(CampaignNotFound):
                    return CampaignStatus.model_validate(await store.get(campaign))
            permitted = await self._permitted(store, plan)
            check = estimate.check(self._settings, store.database)
            by = author(self._settings)
            return await store.create(permitted, campaign, progress, writers=[by], check=check)

        return await self._readers.run(create)

    async def preview(
        self, plan: Plan | str, progress: CreationProgress = UNWATCHED
    ) -> CampaignPreview:
        """The estimated cost of a plan, or of the campaign with this id: of its people, or of those that its draft names."""

        async def preview(store: CampaignStore) -> CampaignPreview:
            if isinstance(plan, str):
                await self._find(store, plan, READ)
                row, written = await sources.read(store.database, plan)
                if row.stage != CampaignStage.DRAFT:
                    return await estimate.of_ready(self._settings, store, plan)
                planned = written.plan
            else:
                planned = await self._permitted(store, plan)
            return await estimate.of_plan(self._settings, store.database, planned, progress)

        return await self._readers.run(preview)

    @verb("POST /v1/campaigns/{id}/start", scope=WRITE, done=en("It is being sent."))
    async def start(self, campaign: str, request: StartRequest = ANY_VERSION) -> CampaignStatus:
        """Let a campaign run that is ready.

        With its `version`, what was read is started, and no later text. Asking for the state that it is in changes nothing.
        """
        begun = {"started_at": clock.now(), "named": None}
        stages = {CampaignStage.READY}
        return await self._move(
            self.start, campaign, State.RUNNING, stages, begun, version=request.version
        )

    @verb(
        "POST /v1/campaigns/{id}/pause",
        scope=WRITE,
        done=en("It is paused. What is under way still arrives."),
    )
    async def pause(self, campaign: str) -> CampaignStatus:
        """Hold a campaign.

        Asking for the state that it is in changes nothing.
        """
        paused = {"reason": _ASKED_FOR}
        return await self._move(self.pause, campaign, State.PAUSED, _RUNNING, paused)

    @verb("POST /v1/campaigns/{id}/resume", scope=WRITE, done=en("It goes on."))
    async def resume(self, campaign: str) -> CampaignStatus:
        """Let a paused campaign run on.

        Asking for the state that it is in changes nothing.
        """
        resumed = {"recent_people": 0.0, "recent_failed": 0.0}
        stages = {CampaignStage.PAUSED}
        return await self._move(self.resume, campaign, State.RUNNING, stages, resumed)

    @verb("POST /v1/campaigns/{id}/cancel", scope=WRITE, done=en("It is cancelled."))
    async def cancel(self, campaign: str) -> CampaignStatus:
        """End a campaign for good.

        Asking for the state that it is in changes nothing.
        """
        ended = {"reason": _ASKED_FOR, "ended_at": clock.now(), "named": None}
        return await self._move(self.cancel, campaign, State.CANCELLED, _CANCELLABLE, ended)

    @verb("DELETE /v1/campaigns/{id}", scope=WRITE, done=en("It is deleted."))
    async def delete(
        self, campaign: str, *, wait: bool = False, on_rows: Callable[[int], None] | None = None
    ) -> None:
        """Delete a draft, or a campaign that has ended.

        It is gone at once; the workers delete its people, page by page.
        """
        # A caller who waits finishes what a process that died has begun.
        async with self._opened() as store:
            async with changing(store.database, campaign, hidden=wait) as (connection, row):
                if await removal.hide(connection, row):
                    before = {"name": row.name, "state": row.stage, "people": row.recipients}
                    await self._record(connection, self.delete, row, before=before)
            if wait:
                await removal.remove(store.database, campaign, on_rows)
                return
        async with impatient_redis(self._settings) as redis:
            await WORK.announce(redis)

    @verb("POST /v1/campaigns/{id}/test", scope=WRITE)
    async def test(self, campaign: str, request: TestRequest) -> JobStatus:
        """Send a campaign's message to testers, now.

        Testers are its writers and the reviewers, five in all. Its title and text begin with 【测试】, so a tester who is a
        recipient gets the real one, too; a picture, a file or a voice message can't be marked: it goes to the key's owner only,
        who is left out of the campaign that day.
        """
        async with self._changing(campaign) as (connection, row):
            users = testers.named_or_self(self._settings, request.users)
            job, marked = await test_of(connection, row, users, request.fields)
            await testers.admit(self._settings, connection, row, users, marked=marked)
            await self._record(connection, self.test, row, after={"people": len(users)})
        (status,) = await accept_jobs(self._settings, [job])
        return status

    @verb("POST /v1/campaigns/{id}/recall", scope=WRITE, done=en("It is being taken back."))
    async def recall(self, campaign: str) -> JobsDocument:
        """Take back what a campaign sent in the last 24 hours.

        One call for each of its calls. It must not run.
        """
        return await self._follow_up(self.recall, campaign, FollowUp.recall)

    @verb(
        "POST /v1/campaigns/{id}/confirm",
        scope=WRITE,
        done=en("DingTalk is being asked; this page shows the answer in a moment."),
    )
    async def confirm(self, campaign: str, request: ConfirmRequest = ALL_CALLS) -> JobsDocument:
        """Ask DingTalk which people a campaign reached.

        Two calls for each that is asked about. The report shows the answer.
        """
        plan = partial(FollowUp.confirm, sample=request.sample)
        return await self._follow_up(self.confirm, campaign, plan)

    async def plan_recall(self, campaign: str) -> FollowUpPlan:
        """Reach and cost of a recall."""
        async with self._reading(campaign) as store:
            return await FollowUp(store).recall(campaign)

    async def plan_confirm(self, campaign: str, *, sample: int | None = None) -> FollowUpPlan:
        """Reach and cost of a delivery query."""
        async with self._reading(campaign) as store:
            return await FollowUp(store).confirm(campaign, sample=sample)

    @verb(
        "POST /v1/campaigns/{id}/review",
        scope=WRITE,
        done=en("The approval is asked for."),
        operation="requestReview",
    )
    async def submit(self, campaign: str) -> CampaignReview:
        """Submit a campaign that is ready for the approval of a second person.

        The reviewers of the settings get a link to it. Any change of the campaign voids the approval.
        """
        async with self._changing(campaign) as (connection, row):
            by = author(self._settings)
            job = await review.submit(self._settings, connection, row, by)
            await self._record(connection, self.submit, row)
            submitted = await review.review_of(self._settings, connection, row)
        if job is not None:
            await accept_jobs(self._settings, [job])
        return submitted

    @verb("POST /v1/campaigns/{id}/approve", scope=APPROVE, done=en("It is approved."))
    async def approve(self, campaign: str, request: ApproveRequest = ANY_VERSION) -> CampaignReview:
        """Approve a campaign that another key or person wrote and submitted.

        With its `version`, an approval of one text can't become that of a later one.
        """
        return await self._decide(self.approve, campaign, "approved", request.version)

    @verb("POST /v1/campaigns/{id}/reject", scope=APPROVE, done=en("It is rejected."))
    async def reject(self, campaign: str, request: RejectRequest) -> CampaignReview:
        """Reject a campaign that was submitted; it does not start."""
        reason = request.reason
        return await self._decide(self.reject, campaign, "rejected", request.version, reason)

    @verb(scope=READ)
    async def export(
        self, campaign: str, outcome: CampaignSought | None = None
    ) -> AsyncIterator[Sequence[Result]]:
        """Hand out the people of a campaign one by one, or those with an outcome, in pages."""
        async with self.exporting(campaign, outcome) as store:
            async for page in Report(store.database).results(campaign, outcome):
                yield page

    async def status(self, campaign: str, scope: str = READ) -> CampaignStatus:
        """How a campaign stands of which the actor may do what has this scope."""
        async with self._opened() as store:
            return CampaignStatus.model_validate(await self._find(store, campaign, scope))

    async def show(self, campaign: str) -> CampaignStatus:
        """How a campaign stands, and why it waits; without a reason where Redis is away. Of a draft also its message."""
        async with self._opened() as store:
            row = await self._find(store, campaign, READ)
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

    async def review(self, campaign: str) -> CampaignReview:
        """How its approval stands."""
        async with self._opened() as store, store.database.read() as connection:
            row = await find_permitted(connection, campaign, READ)
            return await review.review_of(self._settings, connection, row)

    async def reviews(self, campaigns: Collection[str]) -> Mapping[str, str]:
        """How the approvals of campaigns stand that were asked for: ``asked``, ``approved`` or ``rejected``."""
        async with self._opened() as store:
            return await review.states(store, campaigns)

    async def waiting_reviews(self, user: str, apps: Collection[str] | None) -> Sequence[str]:
        """Campaigns of these apps, or of any, that wait for an approval which this person may give."""
        async with self._opened() as store:
            return await review.waiting(store, user, apps)

    async def check_deletable(self, campaign: str) -> CampaignStatus:
        """Raise as `delete` would; the campaign that it would delete."""
        async with self._opened() as store, store.database.read() as connection:
            row = await find_permitted(connection, campaign, WRITE, hidden=True)
            await removal.check_deletable(connection, row)
            return CampaignStatus.model_validate(row)

    async def report(self, campaign: str) -> CampaignReport:
        """The outcomes of its people in figures."""
        async with self._reading(campaign) as store:
            return await Report(store.database).summary(campaign)

    async def first_recipients(self, campaign: str) -> Sequence[FirstRecipient]:
        """First people of a campaign, and their messages."""
        async with self._reading(campaign) as store:
            return await estimate.first_recipients(store, campaign)

    async def ends_at(self, campaign: str) -> datetime | None:
        """When it is through at its present pace, if it runs and calls leave."""
        async with self._reading(campaign) as store:
            return await estimate.ends_at(store, campaign, clock.now())

    async def people(
        self,
        campaign: str,
        outcome: CampaignSought | None = None,
        *,
        behind: Place | None = None,
        limit: int,
    ) -> tuple[Sequence[CampaignPerson], Place | None]:
        """Some of them behind a place; and the last one's place, None where there are no more."""
        async with self._reading(campaign) as store:
            found, last = await Report(store.database).people(
                campaign, outcome, behind=behind, limit=limit
            )
        return [CampaignPerson.model_validate(each._asdict()) for each in found], last

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

    async def _move(
        self,
        body: Callable[..., Any],
        campaign: str,
        to: State,
        stages: Container[CampaignStage],
        columns: Mapping[str, Any],
        *,
        version: int | None = None,
    ) -> CampaignStatus:
        """Move a campaign from one of these stages to another state: its row only.

        What follows from it is done by the leader of campaigns, which is signalled: while Redis is away the fleet finds
        out by itself within seconds.

        Raises:
            CampaignConflict: it can't come there from the stage it is in, needs an approval, or is of another version.
        """
        async with self._changing(campaign) as (connection, row):
            before, stage = State(row.state), row.stage
            review.check_version(row, version)
            if before != to:
                if stage not in stages:
                    raise CampaignConflict(campaign, _refusal(stage, to))
                if to == State.RUNNING and (
                    problem := await review.problem_of(self._settings, connection, row)
                ):
                    raise CampaignConflict(campaign, problem)
                values = {"reason": "", **columns, "state": to}
                await change_rows(connection, CampaignRow, CampaignRow.id == campaign, **values)
                await notices.write(connection, campaign, before, clock.now())
                states = {"before": {"state": before}, "after": {"state": to}}
                await self._record(connection, body, row, **states)
            moved = CampaignStatus.model_validate(await find(connection, campaign))
        async with impatient_redis(self._settings) as redis:
            await WORK.announce(redis)
        return moved

    async def _decide(
        self,
        body: Callable[..., Any],
        campaign: str,
        decision: Decision,
        version: int | None,
        reason: str = "",
    ) -> CampaignReview:
        async with self._changing(campaign, APPROVE) as (connection, row):
            by = approver(self._settings, campaign)
            await review.decide(connection, row, decision, by, reason, version)
            await self._record(connection, body, row, after={"reason": reason} if reason else None)
            return await review.review_of(self._settings, connection, row)

    async def _follow_up(
        self,
        body: Callable[..., Any],
        campaign: str,
        make_plan: Callable[[FollowUp, str], Awaitable[FollowUpPlan]],
    ) -> JobsDocument:
        """Have the jobs of a plan accepted, once the audit has them."""
        async with self._opened() as store:
            await self._find(store, campaign, WRITE)
            plan = await make_plan(FollowUp(store), campaign)
            if not plan.jobs:
                return JobsDocument(jobs=0, ids=[])
            async with changing(store.database, campaign) as (connection, row):
                after = {"people": plan.people, "calls": plan.calls}
                await self._record(connection, body, row, after=after)
        jobs = await accept_jobs(self._settings, plan.jobs)
        return JobsDocument(jobs=len(jobs), ids=[job.id for job in jobs])

    async def _permitted(self, store: CampaignStore, plan: Plan) -> Plan:
        """A plan with its sender, once it is clear that the actor may have it.

        Raises:
            NotPermitted: they may not; names the field.
            ContractError: people of a campaign are left out that is not the actor's.
        """
        spec = CampaignSpec.of(plan)
        sender = permitted_sender(self._settings, spec.app, spec.sender)
        async with store.database.read() as connection:
            await check_left_out(connection, plan.get("without_campaigns") or ())
        return {**plan, "sender": sender}

    @asynccontextmanager
    async def exporting(
        self, campaign: str, outcome: CampaignSought | None = None
    ) -> AsyncGenerator[CampaignStore]:
        """The campaigns, once the audit has that the people of one are handed out, or those with an outcome."""
        async with self._reading(campaign) as store:
            after: dict[str, Any] = {}
            if outcome is not None:
                report = await Report(store.database).summary(campaign)
                counts = {**report.outcomes, "unread": report.delivery.unread}
                after = {"outcome": outcome, "people": counts[outcome]}
            async with changing(store.database, campaign, READ) as (connection, row):
                after = after or {"people": row.recipients}
                await self._record(connection, self.export, row, after=after)
            yield store

    async def _find(self, store: CampaignStore, campaign: str, scope: str) -> CampaignRow:
        async with store.database.read() as connection:
            return await find_permitted(connection, campaign, scope)

    @asynccontextmanager
    async def _reading(self, campaign: str) -> AsyncGenerator[CampaignStore]:
        """The campaigns, once it is clear that the actor may see this one."""
        async with self._opened() as store:
            await self._find(store, campaign, READ)
            yield store

    @asynccontextmanager
    async def _changing(
        self, campaign: str, scope: str = WRITE
    ) -> AsyncGenerator[tuple[AsyncConnection, CampaignRow]]:
        async with self._opened() as store, changing(store.database, campaign, scope) as changed:
            yield changed

    async def _record(
        self, connection: AsyncConnection, body: Callable[..., Any], row: CampaignRow, **values: Any
    ) -> None:
        await audit.record_verb(connection, body, row.id, app=row.app, lane=LANE, **values)

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


def _refusal(stage: CampaignStage, to: State) -> str:
    if stage == CampaignStage.DRAFT:
        return NOT_READY
    return en("is {}, so it can't become {}", stage, to)
