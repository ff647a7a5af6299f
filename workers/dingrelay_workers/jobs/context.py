"""The services for one job's body: `dingrelay_tasks.context`, bound to one claim."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dingrelay_producers.settings.apps import ORGANISATION
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import moment_of
from dingrelay_tasks import beijing
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.context import (
    ApprovalChange,
    ApprovalInstances,
    ApprovalStates,
    CalledChunks,
    DailyVerdict,
    Intent,
    MessageCall,
    Messages,
    MissedPage,
    RecipientVerdict,
    Robots,
)
from dingrelay_tasks.contract import Contract, Json
from dingrelay_tasks.kinds import Kind
from dingrelay_tasks.organisation import Contacts, Directory
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.sentence import en
from dingrelay_workers.calls.batch import BatchMember
from dingrelay_workers.calls.intent_log import IntentLog
from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.dingtalk import missed_events
from dingrelay_workers.dingtalk.apis import MEDIA_UPLOAD, MESSAGE_SEND, of_path
from dingrelay_workers.dingtalk.approval_form import Form
from dingrelay_workers.dingtalk.approvals import ApprovalsTopapi, ApprovalsV1
from dingrelay_workers.dingtalk.contacts import ROOT_DEPARTMENT, ContactsV1, ContactsV2
from dingrelay_workers.dingtalk.errors import Ambiguous, NotFound, Throttled, Transient
from dingrelay_workers.dingtalk.messages import WorkNotifications
from dingrelay_workers.dingtalk.request import FileForm, Request
from dingrelay_workers.jobs.robots import JobRobots
from dingrelay_workers.limiter.daily_limits import UNMEASURED
from dingrelay_workers.limiter.quota import PUSHES
from dingrelay_workers.limiter.slot import Outage, Parked
from dingrelay_workers.metrics import EVENTS_MISSED
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.approval_claims import ApprovalClaims
from dingrelay_workers.store.records import Claim

LOOK_UPS = "look-ups"
"""The step that keeps the look-ups of a run that had to wait: else each run would repeat them."""
LOOK_UPS_KEPT_MS = 600_000
"""How long they count."""
MOST_RECIPIENTS = 5000
"""People that one call can reach, and that a minute may hold (API §2.1)."""

LOOK_LATER = timedelta(minutes=10)
"""Pause before an approval's state is read from DingTalk again, after a failed query."""
LOOK_BACK_MS = 60_000
"""An instance is looked up from this long before its call left, beside what the clocks differ."""
LOOK_BACK_UNMEASURED_MS = 3_600_000 + LOOK_BACK_MS
"""The same where DingTalk's answers don't show how much they differ."""


class JobContext:
    """One run of one job, and `dingrelay_tasks.Context` for its body.

    Attributes:
        kind: of the job.
        claim: the job.
        contract: set once the payload has proved to be one.
        intents: what is about to leave, and what left without an answer.
    """

    def __init__(
        self,
        kind: Kind,
        claim: Claim,
        resources: Resources,
        member: BatchMember | None = None,
    ) -> None:
        """Asks nothing yet. `member` is kept for this job in the batch that claimed it."""
        self.kind = kind
        self.claim = claim
        self.contract: Contract | None = None
        self.intents = IntentLog(
            claim,
            records=resources.records,
            clock=resources.clock,
            settle_delay=resources.settings.settle_delay,
        )
        self._resources = resources
        self._messages: JobMessages | None = None
        self._calls = JobCalls(
            claim,
            settings=resources.settings,
            limiter=resources.limiter,
            quota=resources.quota,
            tokens=resources.tokens,
            transport=resources.transport,
            clock=resources.clock,
            batches=resources.batches,
            intents=self.intents,
            member=member,
        )

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.claim.id

    @property
    def intent(self) -> Intent | None:
        """A call of an earlier run whose outcome is unknown."""
        return self.intents.intent

    def confirm_not_executed(self) -> None:
        """The call of the intent is known to have done nothing."""
        self.intents.confirm_not_executed()

    @property
    def settle_delay(self) -> timedelta:
        """How long after a lost answer what can't be found is known not to exist."""
        return timedelta(seconds=self._resources.settings.settle_delay)

    def now(self) -> datetime:
        """The time of Redis's clock, which all workers share, with its zone."""
        return moment_of(self.claim.time.now())

    async def day(self, moment: datetime) -> str:
        """The Beijing day that DingTalk has at a moment of Redis's clock, such as ``2026-11-24``."""
        return beijing.day(moment + timedelta(milliseconds=await self._calls.ahead() or 0))

    @property
    def messages(self) -> Messages:
        """Work notifications, with the day's silent limits."""
        if self._messages is None:  # a message asks for them four times
            self._messages = JobMessages(self.claim, self._calls, self._resources, self.contacts)
        return self._messages

    @property
    def robots(self) -> Robots:
        """Robots of groups, and of apps."""
        return JobRobots(self.claim, self._calls, self._resources)

    @property
    def approvals(self) -> ApprovalInstances:
        """ApprovalInstances, each instance belonging to one job."""
        return JobApprovals(self.claim, self._calls, self._resources)

    @property
    def approval_states(self) -> ApprovalStates:
        """The states of approvals, in SQL."""
        claim = self.claim
        return self._resources.approval_states(claim.app, job_id=claim.id, sender=claim.sender)

    @property
    def contacts(self) -> Contacts:
        """Departments and users at DingTalk, through the configured generation of its API."""
        v1 = self._resources.settings.contacts_api == "v1"
        return ContactsV1(self._calls) if v1 else ContactsV2(self._calls)

    @property
    def directory(self) -> Directory:
        """Departments and users in SQL."""
        # All that this run writes was read after its claim.
        return self._resources.directory(self.claim.app, read_at=self.claim.time.at)

    @property
    def campaigns(self) -> CalledChunks:
        """The calls of campaigns in SQL."""
        calls: CalledChunks = self._resources.noun_for_jobs("campaigns")
        return calls

    async def call(
        self,
        *,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | Sequence[Any] | None,
        changes: bool,
    ) -> Json:
        """Call any API of DingTalk's as the job's app, under the limits of its path."""
        api = of_path(method, path, ruled=self._resources.rules.named_for, changes=changes)
        return await self._calls.send(Request(api, query=query, body=body))

    async def upload(self, upload: str, *, content_type: str, query: Mapping[str, str]) -> Json:
        """DingTalk's answer to an upload; the file is apart from the record."""
        content = await self._resources.redis.get(keys.upload(upload))
        if not isinstance(content, bytes):
            raise Refused("upload_gone", "the file has waited too long", "Upload it again.")
        form = FileForm(content_type, content)
        return await self._calls.send(Request(MEDIA_UPLOAD, query=query, body=form))

    async def forget_upload(self, upload: str) -> None:
        """Delete an upload."""
        await self._resources.redis.delete(keys.upload(upload))

    def count_push(self) -> None:
        """Count a message that DingTalk has pushed."""
        app = self._resources.settings.apps.get(self.claim.app)
        self._resources.quota.count(app.organisation if app else ORGANISATION, PUSHES)

    async def missed_events(self) -> MissedPage:
        """The oldest events that DingTalk could not push."""
        return await missed_events.read(self._calls, EVENTS_MISSED.labels(self.claim.app).inc)

    async def erase_person(
        self, user: str, *, app: str | None, since: datetime, tombstone: str
    ) -> tuple[int, Sequence[datetime | None]]:
        """Take a person out of SQL and Redis."""
        erasure = await self._resources.noun_for_jobs("personal_data").erase(
            user, app=app, since=since, tombstone=tombstone
        )
        return erasure.changed.total(), [place.until for place in erasure.left]

    async def once(
        self, step: str, act: Callable[[], Awaitable[Json]], *, again: bool = False
    ) -> Json:
        """The outcome of `act`, or what an earlier run remembered for this step."""
        outcome = self.intents.finished.get(step) if again else await self.step_result(step)
        if outcome is not None:
            return outcome
        self.intents.enter(step)
        outcome = await act()
        self.intents.finish(step, outcome)
        return outcome

    def note_step(self, step: str, result: Json) -> None:
        """Store a step's result for the runs that follow."""
        self.intents.finish(step, result)

    async def step_result(self, step: str) -> Json | None:
        """The stored result of this step (`once`)."""
        return self.intents.finished.get(step) or self.claim.steps.get(step)

    async def spawn(self, children: Sequence[Contract], *, keys: Sequence[str]) -> None:
        """Enqueue child jobs; the same key within this job's family enqueues once."""
        family = self.claim.parent or self.claim.id
        await self._resources.enqueue(
            [
                record.draft(child, key=f"{family}/{key}", parent=family, sender=self.claim.sender)
                for child, key in zip(children, keys, strict=True)
            ]
        )

    async def enqueue(self, jobs: Sequence[Contract]) -> list[str | None]:
        """Enqueue jobs that stand by themselves; their states."""
        drafts = [record.draft(job) for job in jobs]
        await self._resources.redis_retry.finish(lambda: self._resources.enqueue(drafts))
        return await self._resources.records.states([draft.id for draft in drafts])

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        """The states of this job's children of a kind, by the keys given to `spawn`."""
        family = self.claim.parent or self.claim.id
        ids = [record.keyed_id(self.claim.app, kind, f"{family}/{key}") for key in keys]
        return await self._resources.records.states(ids)

    async def wake(self, job_id: str) -> None:
        """Have a waiting job looked at now."""
        await self._resources.records.wake(job_id)


class JobMessages(WorkNotifications):
    """`dingrelay_tasks.context.Messages` for one job."""

    def __init__(
        self, claim: Claim, calls: JobCalls, resources: Resources, contacts: Contacts
    ) -> None:
        super().__init__(calls)
        self._claim = claim
        self._job_calls = calls
        self._intents = calls.intents
        self._contacts = contacts
        self._resources = resources

    @property
    def users_per_call(self) -> int:
        """How many users a call may have."""
        return self._resources.limiter.recipients_per_call(self._claim.app, MESSAGE_SEND.name)

    async def reachable(self, users: Sequence[str]) -> RecipientVerdict:
        """The users among these that can be reached at all, as far as that is surely known."""
        time, look_ups = self._claim.time, self._claim.steps.get(LOOK_UPS, {"until": 0})
        answers = look_ups["answers"] if time.now() < look_ups["until"] else {}
        try:
            return await self._resources.recipient_checks.check(
                self._calls, self._contacts, time, users, answers
            )
        except (Parked, Throttled, Wait):
            until = time.now() + LOOK_UPS_KEPT_MS
            self._intents.finish(LOOK_UPS, {"until": until, "answers": answers})
            raise

    async def reserve(
        self, call: MessageCall, message: Mapping[str, Any], *, anyway: bool
    ) -> DailyVerdict:
        """Reserve today's limits for a call."""
        app, run = self._claim.app, self._claim.ownership
        offset = await self._job_calls.clock_offset() or UNMEASURED
        verdict, self._intents.leaves_until = await self._resources.daily_limits.reserve(
            app, run, call, message, anyway=anyway, offset=offset
        )
        self._intents.reserved = len(call.users)
        return verdict

    async def send(self, call: MessageCall, message: Mapping[str, Any]) -> tuple[int, str]:
        """Make a call; DingTalk's ids of the task and of the request."""
        whole = [ROOT_DEPARTMENT] if call.everyone else call.departments
        people = len(call.users) + sum([await self._size(department) for department in whole])
        recipients = min(max(people, 1), MOST_RECIPIENTS)
        return await self.send_message(call, message, recipients=recipients)

    async def _size(self, department: int) -> int:
        """How many people a department and all below hold: what a call to it costs.

        DingTalk's own count, read once an hour; the limit of a call where it gives none.
        """
        key, redis = keys.member_count(self._claim.app), self._resources.redis
        cached_size = await redis.hget(key, str(department))
        if cached_size is not None:
            return int(cached_size)
        answer = await self._contacts.department(department)
        count = answer.fields.get("member_count") if answer else 0
        size = count if isinstance(count, int) else MOST_RECIPIENTS
        if await redis.hlen(key) < keys.MEMBER_COUNTS:
            await redis.hset(key, str(department), str(size))
            # From the first one on: no count is used for longer.
            await redis.pexpire(key, keys.MEMBER_COUNT_TTL_MS, nx=True)
        return size


class JobApprovals:
    """`dingrelay_tasks.context.ApprovalInstances` for one job: no two jobs get the same instance."""

    def __init__(self, claim: Claim, calls: JobCalls, resources: Resources) -> None:
        self._calls = calls
        self._intents = calls.intents
        self._time = claim.time
        self._form_checks = resources.form_checks
        self._approval_claims = ApprovalClaims(resources.redis, resources.settings, job_id=claim.id)
        topapi = resources.settings.approval_api == "topapi"
        self._approvals = ApprovalsTopapi(calls) if topapi else ApprovalsV1(calls)

    async def check(self, process_code: str, form: Form) -> None:
        """Check a form against its template, if that can be read.

        Raises:
            ContractError: DingTalk would refuse the form.
        """
        await self._form_checks.check(self._calls, self._time, process_code, form)

    async def create(self, job: ApprovalCreate) -> str:
        """Create an instance; its id.

        Raises:
            Ambiguous: its answer was lost. Or another job had lost its own answer and found this
                instance before ours came: it keeps that one, so the one that it made itself is to
                be found for ours.
        """
        try:
            instance = await self._approvals.create(job)
        except Ambiguous:
            # DingTalk may have worked on it until now: the wait for it to appear starts here.
            await self._intents.write()
            raise
        since = self._intents.open_since
        taken_since = await self._approval_claims.claim(instance, since=since)
        if taken_since is None:
            self._intents.approval = instance, since
            return instance
        await self._intents.search_from(taken_since)
        raise Ambiguous("claimed", "a job with an equal form took the instance that was made")

    async def find(
        self, job: ApprovalCreate, *, since: datetime
    ) -> tuple[str | None, Sequence[Json], timedelta]:
        """The earliest instance with an equal form that no other job has; it is this job's then."""
        begin = int(since.timestamp() * 1000)
        claimed_instance = await self._approval_claims.own()
        if claimed_instance:
            self._intents.approval = claimed_instance, begin
            return claimed_instance, (), timedelta()
        listed = await self._listed(job, begin)
        free = await self._approval_claims.free(listed)
        equal, similar = await self._approvals.matches(
            free, originator=job.originator, form=job.form_values
        )
        for instance in equal:
            if await self._approval_claims.claim(instance.id, since=begin, sought=True) is None:
                self._intents.approval = instance.id, begin
                return instance.id, (), timedelta()
        unclear = await self._approval_claims.free([instance.id for instance in similar])
        candidates: list[Json] = [
            {
                "id": instance.id,
                "title": instance.title,
                "created": instance.created,
                "link": instance.link,
            }
            for instance in similar
            if instance.id in unclear
        ]
        return None, candidates, await self._approval_claims.unsettled(listed)

    async def look(self, instance: str, *, patient: bool = False) -> ApprovalChange | None:
        """How an instance stands; None if DingTalk knows none with this id.

        Raises:
            Wait: DingTalk can't be asked now, and the caller is patient. No attempt is spent: who
                follows an approval for weeks meets some failures.
        """
        try:
            return await self._approvals.look(instance)
        except NotFound:
            return None
        except (Outage, Transient) as error:
            if not patient:
                raise
            raise Wait(LOOK_LATER, en("DingTalk can't be asked ({})", error)) from None

    async def _listed(self, job: ApprovalCreate, since: int) -> list[str]:
        """The ids of the instances that were made from `since` (ms of Redis's clock) on."""
        offset = await self._calls.ahead()
        if offset is None:
            begin = since - LOOK_BACK_UNMEASURED_MS
        else:
            begin = min(since, self._time.now()) + offset - LOOK_BACK_MS
        return await self._approvals.listed(job.process_code, job.originator, begin)
