"""One approval, after its creation, from Python."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from dingrelay_producers.client.arguments import checked_id, checked_timeout
from dingrelay_producers.client.in_threads import InThreads, in_threads, in_threads_as, run
from dingrelay_producers.client.job_ref import AsyncJobRef
from dingrelay_producers.client.verbs import Steps
from dingrelay_producers.errors import ApprovalNotFound, WaitTimeout
from dingrelay_producers.installed import service
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.context import ApprovalState, TaskState
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.approval_verbs import ApprovalVerbs
    from dingrelay_producers.client.client import Client
    from dingrelay_producers.client.job_ref import JobRef
    from dingrelay_tasks.approval_actions import VerdictRequest

POLL_SECONDS = 0.5
"""Pause between two looks of `wait` at the table."""
NEW_WITHIN = 20.0
"""Seconds after which an approval that is not in the table is not followed: that of a job which has
just ended comes into it a moment later."""


class ApprovalTaskStatus(BaseModel, frozen=True, from_attributes=True):
    """The task of one person, who decides or has decided."""

    id: str
    user: str
    state: TaskState
    since: datetime | None
    ended_at: datetime | None
    """Null while it runs, and where DingTalk did not report it."""


class ApprovalStatus(BaseModel, frozen=True):
    """The stored state of an approval."""

    app: str
    instance: str
    """DingTalk's id of it."""
    state: ApprovalState
    source: Literal["job", "event", "look"]
    """Source of the state: the instance's creation, an event of DingTalk, or a look-up."""
    job: str
    """The job that created it; empty if it was created in DingTalk."""
    sender: str
    template: str
    """Process code of the template."""
    originator: str
    title: str
    business_id: str
    """DingTalk's number of the approval, as people see it."""
    link: str
    """A page that shows it in DingTalk."""
    created_at: datetime | None
    """Precise to the minute if DingTalk gives no more."""
    finished_at: datetime | None
    known_since: datetime
    """When it was stored first, by Redis's clock."""
    changed_at: datetime
    tasks: list[ApprovalTaskStatus]

    @property
    def ended(self) -> bool:
        """Whether it is decided, withdrawn or deleted."""
        return self.state != "running"


class ApprovalDeadline:
    """How long to wait for the end of an approval.

    Args:
        instance: its id.
        timeout: seconds.
    """

    def __init__(self, instance: str, timeout: float) -> None:
        self._instance = instance
        self._timeout = timeout
        self._begun = time.monotonic()
        checked_timeout(timeout)

    def check(self, status: ApprovalStatus | None) -> None:
        """Go on waiting, after a look that found this status.

        Raises:
            WaitTimeout: the time is over.
            ApprovalNotFound: it is not followed.
        """
        waited = time.monotonic() - self._begun + POLL_SECONDS
        if status is None and waited > min(NEW_WITHIN, self._timeout):
            raise ApprovalNotFound(self._instance)
        if waited > self._timeout:
            state = status.state if status else "unknown"
            raise WaitTimeout(
                en("approval {} is {} after {:g} s", self._instance, state, self._timeout)
            )


class ApprovalRef:
    """One approval, by its id.

    `status` and `wait` raise `ApprovalNotFound` if it is not followed. The other methods work on any
    approval: each enqueues a job under DingTalk's limits and returns its reference. All raise
    `ServiceUnavailable` if the database or Redis can't be used.
    """

    __slots__ = ("_carry_out", "_client", "app", "id")

    def __init__(
        self,
        client: "Client",
        instance: str,
        app: str,
        carry_out: Callable[[Steps[JobStatus]], JobStatus],
    ) -> None:
        self._client = client
        self._carry_out = carry_out
        self.id = checked_id(instance, "instance", en("an approval instance"))
        self.app = app

    def status(self) -> ApprovalStatus:
        """The stored state, kept current by events and look-ups. No call is made."""
        status = self.known()
        if status is None:
            raise ApprovalNotFound(self.id)
        return status

    def look(self) -> "JobRef":
        """Ask DingTalk for the current state; `status` has it once the job is done."""
        from dingrelay_tasks.approval_follow import ApprovalLook

        return self._client.send(ApprovalLook(app=self.app, instance=self.id))

    def wait(self, timeout: float = 86_400) -> ApprovalStatus:
        """The status once it is decided, withdrawn or deleted.

        Raises:
            WaitTimeout: not within `timeout` seconds.
        """
        deadline = ApprovalDeadline(self.id, timeout)
        while not ((status := self.known()) and status.ended):
            deadline.check(status)
            time.sleep(POLL_SECONDS)
        return status

    def terminate(self, reason: str = "", *, user: str | None = None) -> "JobRef":
        """Withdraw it while it runs.

        DingTalk refuses this in the first 15 seconds; if the approval is followed, the job waits. If
        the template forbids it, the job is retried and ends dead.

        Args:
            reason: shown to the approvers.
            user: the originator, to withdraw it in their name; None for the system.

        Raises:
            ContractError: a field is wrong.
        """
        from dingrelay_tasks.approval_actions import TerminationRequest

        request = TerminationRequest(app=self.app, reason=reason, user=user)
        return self._job_of(self._verbs.terminate(self.id, request))

    def comment(self, text: str, user: str) -> "JobRef":
        """Add a comment in a user's name. If its answer is lost, the job ends unknown."""
        from dingrelay_tasks.approval_actions import CommentRequest

        request = CommentRequest(app=self.app, text=text, user=user)
        return self._job_of(self._verbs.comment(self.id, request))

    def agree(self, user: str, remark: str = "") -> "JobRef":
        """Agree in the name of an approver. If `user` has no open task, the job ends dead."""
        return self._job_of(self._verbs.agree(self.id, self._verdict(user, remark)))

    def refuse(self, user: str, remark: str = "") -> "JobRef":
        """Refuse in the name of an approver. If `user` has no open task, the job ends dead."""
        return self._job_of(self._verbs.refuse(self.id, self._verdict(user, remark)))

    @property
    def _verbs(self) -> "ApprovalVerbs":
        from dingrelay_producers.client.approval_verbs import ApprovalVerbs

        return ApprovalVerbs(self._client.settings)

    def _verdict(self, user: str, remark: str) -> "VerdictRequest":
        from dingrelay_tasks.approval_actions import VerdictRequest

        return VerdictRequest(app=self.app, user=user, remark=remark)

    def _job_of(self, steps: Steps[JobStatus]) -> "JobRef":
        return self._client.job(self._carry_out(steps).id)

    def known(self) -> ApprovalStatus | None:
        """Like `status`; None if it is not followed (yet)."""
        status: ApprovalStatus | None = run(
            service("ApprovalService", self._client.settings).get(self.app, self.id)
        )
        return status

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApprovalRef) and (other.app, other.id) == (self.app, self.id)

    def __hash__(self) -> int:
        return hash((self.app, self.id))

    def __repr__(self) -> str:
        return f"ApprovalRef({self.id!r}, app={self.app!r})"


class AsyncApprovalRef(InThreads[ApprovalRef]):
    """`ApprovalRef` for asyncio: the same calls, carried out in threads."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """DingTalk's id of the instance."""
        return self._blocking.id

    status = in_threads(ApprovalRef.status)
    known = in_threads(ApprovalRef.known)
    look = in_threads_as(AsyncJobRef, ApprovalRef.look)
    terminate = in_threads_as(AsyncJobRef, ApprovalRef.terminate)
    comment = in_threads_as(AsyncJobRef, ApprovalRef.comment)
    agree = in_threads_as(AsyncJobRef, ApprovalRef.agree)
    refuse = in_threads_as(AsyncJobRef, ApprovalRef.refuse)

    async def wait(self, timeout: float = 86_400) -> ApprovalStatus:
        """The status once it has ended; see `ApprovalRef.wait`."""
        deadline = ApprovalDeadline(self.id, timeout)
        while not ((status := await self.known()) and status.ended):
            deadline.check(status)
            await asyncio.sleep(POLL_SECONDS)
        return status
