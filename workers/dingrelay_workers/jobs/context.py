"""The services for one job's body: `dingrelay_tasks.Context`, bound to one claim."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.store import keys, record
from dingrelay_tasks import beijing
from dingrelay_tasks.context import (
    ApprovalInstances,
    ApprovalStates,
    CalledChunks,
    ErasurePass,
    Intent,
    Messages,
    MissedPage,
)
from dingrelay_tasks.contract import Contract, Json
from dingrelay_tasks.organisation import Contacts, Directory
from dingrelay_tasks.outcomes import Refused
from dingrelay_tasks.robot_post import FORGOTTEN
from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.dingtalk import missed_events, robots
from dingrelay_workers.dingtalk.apis import MEDIA_UPLOAD, of_path
from dingrelay_workers.dingtalk.contacts import ContactsV2
from dingrelay_workers.dingtalk.contacts_v1 import ContactsV1
from dingrelay_workers.dingtalk.request import FileForm, Request
from dingrelay_workers.jobs.job_approvals import JobApprovals
from dingrelay_workers.jobs.job_messages import JobMessages
from dingrelay_workers.metrics import EVENTS_MISSED
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.claim import Claim


class JobContext:
    """`dingrelay_tasks.Context` for one run of one job.

    Args:
        claim: the job.
        calls: makes its calls.
        resources: everything else.
    """

    def __init__(self, claim: Claim, calls: JobCalls, resources: Resources) -> None:
        self._claim = claim
        self._calls = calls
        self._intents = calls.intents
        self._resources = resources

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._claim.id

    @property
    def intent(self) -> Intent | None:
        """A call of an earlier run whose outcome is unknown."""
        return self._intents.intent

    def rule_out(self) -> None:
        """The call of the intent is known to have done nothing."""
        self._intents.rule_out()

    @property
    def settle_delay(self) -> timedelta:
        """How long after a lost answer what can't be found is known not to exist."""
        return timedelta(seconds=self._resources.settings.settle_delay)

    def now(self) -> datetime:
        """The time of Redis's clock, which all workers share, with its zone."""
        return datetime.fromtimestamp(self._claim.time.now() / 1000, UTC)

    def day(self, moment: datetime) -> str:
        """The Beijing day that DingTalk has at a moment of Redis's clock, such as ``2026-11-24``."""
        return beijing.day(moment + timedelta(milliseconds=self._intents.ahead))

    @property
    def messages(self) -> Messages:
        """Work notifications, with the day's silent limits."""
        return JobMessages(self._claim, self._calls, self._resources, self.contacts)

    @property
    def approvals(self) -> ApprovalInstances:
        """ApprovalInstances, each instance belonging to one job."""
        return JobApprovals(self._claim, self._calls, self._resources)

    @property
    def approval_states(self) -> ApprovalStates:
        """The states of approvals, in SQL."""
        claim = self._claim
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
        return self._resources.directory.of(
            self._claim.app,
            read_at=self._claim.time.at,
            on_complete=self._resources.recipient_checks.note_synced,
        )

    @property
    def campaigns(self) -> CalledChunks:
        """The calls of campaigns in SQL."""
        return self._resources.campaigns

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

    async def post_to_robot(
        self, robot: str, *, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Json:
        """DingTalk's answer to a message; the robot's token is apart from the record."""
        token: Any = await self._resources.redis.get(keys.robot(robot))
        if not token:
            reason = "the robot's token is not known any more"
            raise Refused(FORGOTTEN, reason, "Post the message again.")
        return await robots.post(self._calls, robot, token.decode(), query=query, body=body)

    async def missed_events(self) -> MissedPage:
        """The oldest events that DingTalk could not push."""
        return await missed_events.read(self._calls, EVENTS_MISSED.labels(self._claim.app).inc)

    async def erase_person(
        self, user: str, *, app: str | None, since: datetime, tombstone: str
    ) -> ErasurePass:
        """Take a person out of SQL and Redis."""
        return await self._resources.personal_data.erase(
            user, app=app, since=since, tombstone=tombstone
        )

    async def once(
        self, step: str, act: Callable[[], Awaitable[Json]], *, again: bool = False
    ) -> Json:
        """The outcome of `act`, or what an earlier run remembered for this step."""
        known = self._intents.finished.get(step) if again else await self.step_result(step)
        if known is not None:
            return known
        self._intents.enter(step)
        outcome = await act()
        self._intents.finish(step, outcome)
        return outcome

    async def step_result(self, step: str) -> Json | None:
        """The stored result of this step (`once`)."""
        return self._intents.finished.get(step) or self._claim.steps.get(step)

    async def spawn(self, children: Sequence[Contract], *, keys: Sequence[str]) -> None:
        """Enqueue child jobs; the same key within this job's family enqueues once."""
        family = self._claim.parent or self._claim.id
        await self._resources.enqueue(
            [
                record.draft(child, key=f"{family}/{key}", parent=family, sender=self._claim.sender)
                for child, key in zip(children, keys, strict=True)
            ]
        )

    async def enqueue(self, jobs: Sequence[Contract]) -> None:
        """Enqueue jobs that stand by themselves."""
        drafts = [record.draft(job) for job in jobs]
        await self._resources.patience.finish(lambda: self._resources.enqueue(drafts))

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        """The states of this job's children of a kind, by the keys given to `spawn`."""
        family = self._claim.parent or self._claim.id
        ids = [record.keyed_id(self._claim.app, kind, f"{family}/{key}") for key in keys]
        return await self._resources.records.states(ids)

    async def wake(self, job_id: str) -> None:
        """Have a waiting job looked at now."""
        await self._resources.records.wake(job_id)
