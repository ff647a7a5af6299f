"""The verbs of campaigns."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Container,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.campaign_documents import (
    ALL_CALLS,
    ANY_VERSION,
    ApproveRequest,
    CampaignStatus,
    ConfirmRequest,
    Plan,
    RejectRequest,
    StartRequest,
    TestRequest,
)
from dingrelay_producers.client.filters import CampaignSought
from dingrelay_producers.client.verbs import Audit, Question, declared, verb
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound, DingrelayError
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.campaigns import estimate, notices, removal, review, testers
from dingrelay_workers.campaigns.audience import UNWATCHED, CreationProgress
from dingrelay_workers.campaigns.calls import FollowUp, FollowUpPlan, test_of
from dingrelay_workers.campaigns.documents import CampaignSpec, JobsDocument, check_start_at
from dingrelay_workers.campaigns.models import LANE, NOT_READY, CampaignRow, State
from dingrelay_workers.campaigns.people import author
from dingrelay_workers.campaigns.reach import APPROVE, READ, WRITE, changing, id_for_request
from dingrelay_workers.campaigns.reads import CampaignReads
from dingrelay_workers.campaigns.report import Report, Result
from dingrelay_workers.campaigns.review import CampaignReview, Decision
from dingrelay_workers.campaigns.store import CampaignStore, find
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.http.accepting import Acceptor
from dingrelay_workers.maintenance.leader import WORK
from dingrelay_workers.store.connections import impatient_redis

_RUNNING = frozenset({CampaignStage.SCHEDULED, CampaignStage.RUNNING})
_CANCELLABLE = _RUNNING | {CampaignStage.READY, CampaignStage.PAUSED}
_ASKED_FOR = en("asked for")


class CampaignService(CampaignReads):
    """The campaigns and their verbs. `CampaignRef` and `CampaignPlan` say what its methods mean."""

    NOUN = "campaign"

    def __init__(
        self,
        settings: Settings,
        database: Database | None = None,
        acceptor: Acceptor | None = None,
        redis: Redis | None = None,
    ) -> None:
        super().__init__(settings, database, redis)
        self._acceptor = acceptor or Acceptor(settings)

    @verb(scope=WRITE)
    async def create(self, plan: Plan, progress: CreationProgress = UNWATCHED) -> CampaignStatus:
        """Store a campaign that is ready with what its check finds; one only for a request that is repeated."""
        campaign = id_for_request()

        async def create(database: Database) -> CampaignStatus:
            campaigns = CampaignStore(database)
            if campaign is not None:
                with suppress(CampaignNotFound):
                    return CampaignStatus.model_validate(await campaigns.get(campaign))
            permitted = await self._permitted(database, plan)
            check_start_at(CampaignSpec.of(permitted).start_at)
            check = estimate.check(self._settings, database)
            by = author(self._settings)
            return await campaigns.create(
                permitted, campaign, progress, writers=[by], check=check, body=self.create
            )

        return await self._readers.run(create)

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
        """Hold a campaign; no call of it leaves two seconds later.

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
        """End a campaign for good: people who have not got it yet will not.

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
        async with self._opened() as database:
            async with changing(database, campaign, hidden=wait) as (connection, row):
                if await removal.hide(connection, row):
                    before = {"name": row.name, "state": row.stage, "people": row.recipients}
                    await self._record(connection, self.delete, row, before=before)
            if wait:
                await removal.remove(database, campaign, on_rows)
                return
        async with impatient_redis(self._settings, self._redis) as redis:
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
        (status,) = await self._accept(self.test, row, [job], people=len(users))
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
        async with self._reading(campaign, WRITE) as (database, row):
            async with database.read() as connection:
                submission = await review.submission_of(self._settings, connection, row)
            if submission.card is not None:
                # Before it stands: no reviewer would learn of it otherwise.
                await self._acceptor.accept([submission.card])
            async with changing(database, campaign) as (connection, present):
                await review.submit(connection, present, submission)
                await self._record(connection, self.submit, present)
                return await review.review_of(self._settings, connection, present)

    @verb("POST /v1/campaigns/{id}/approve", scope=APPROVE, done=en("It is approved."))
    async def approve(self, campaign: str, request: ApproveRequest = ANY_VERSION) -> CampaignReview:
        """Approve a campaign that another key or person wrote and submitted.

        With its `version`, an approval of one text can't become that of a later one.
        """
        return await self._decide(self.approve, campaign, "approved", request.version)

    @verb(
        "POST /v1/campaigns/{id}/reject",
        scope=APPROVE,
        question=Question(
            en("Reject this broadcast?"),
            en("Reject"),
            en("Its writer sees why, and can change it and ask again."),
        ),
        done=en("It is rejected."),
    )
    async def reject(self, campaign: str, request: RejectRequest) -> CampaignReview:
        """Reject a campaign that was submitted; it does not start."""
        reason = request.reason
        return await self._decide(self.reject, campaign, "rejected", request.version, reason)

    @verb(scope=READ)
    async def export(
        self, campaign: str, outcome: CampaignSought | None = None
    ) -> AsyncIterator[Sequence[Result]]:
        """Hand out the people of a campaign one by one, or those with an outcome, in pages."""
        async with self.exporting(campaign, outcome) as database:
            async for page in Report(database).results(campaign, outcome):
                yield page

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
        async with impatient_redis(self._settings, self._redis) as redis:
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
            job = await review.decide(self._settings, connection, row, decision, reason, version)
            await self._record(connection, body, row, after={"reason": reason} if reason else None)
            decided = await review.review_of(self._settings, connection, row)
        if job is not None:
            # The decision stands; the console's first page says so as well.
            with suppress(DingrelayError, ContractError):
                await self._acceptor.accept([job])
        return decided

    async def _follow_up(
        self,
        body: Callable[..., Any],
        campaign: str,
        make_plan: Callable[[FollowUp, CampaignRow], Awaitable[FollowUpPlan]],
    ) -> JobsDocument:
        """Have the jobs of a plan accepted."""
        async with self._reading(campaign, WRITE) as (database, row):
            plan = await make_plan(FollowUp(database), row)
            if not plan.jobs:
                return JobsDocument(jobs=0, ids=[])
        jobs = await self._accept(body, row, plan.jobs, people=plan.people, calls=plan.calls)
        return JobsDocument(jobs=len(jobs), ids=[job.id for job in jobs])

    async def _accept(
        self, body: Callable[..., Any], row: CampaignRow, jobs: Sequence[Contract], **after: int
    ) -> Sequence[JobStatus]:
        """Have the jobs accepted that a verb consists of, once the audit has it; a refusal has done nothing."""
        change = Audit(*declared(body), [row.id], row.app, LANE, after=after)
        async with self._opened() as database:
            changes = audit.AuditService(self._settings, database)
            return await self._acceptor.accept(jobs, change, changes)

    @asynccontextmanager
    async def exporting(
        self, campaign: str, outcome: CampaignSought | None = None
    ) -> AsyncGenerator[Database]:
        """The database, once the audit has that the people of one are handed out, or those with an outcome."""
        async with self._reading(campaign) as (database, _):
            after: dict[str, Any] = {}
            if outcome is not None:
                report = await Report(database).summary(campaign)
                counts = {**report.outcomes, "unread": report.delivery.unread}
                after = {"outcome": outcome, "people": counts[outcome]}
            async with changing(database, campaign, READ) as (connection, row):
                after = after or {"people": row.recipients}
                await self._record(connection, self.export, row, after=after)
            yield database

    @asynccontextmanager
    async def _changing(
        self, campaign: str, scope: str = WRITE
    ) -> AsyncGenerator[tuple[AsyncConnection, CampaignRow]]:
        async with self._opened() as database, changing(database, campaign, scope) as changed:
            yield changed

    async def _record(
        self, connection: AsyncConnection, body: Callable[..., Any], row: CampaignRow, **values: Any
    ) -> None:
        await audit.record_verb(connection, body, row.id, app=row.app, lane=LANE, **values)


def _refusal(stage: CampaignStage, to: State) -> str:
    if stage == CampaignStage.DRAFT:
        return NOT_READY
    return en("is {}, so it can't become {}", stage, to)
