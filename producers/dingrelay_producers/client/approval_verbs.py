"""Verbs of approvals: what people do to one after its creation, each by a job. See `verbs`."""

from typing import TYPE_CHECKING, TypeVar

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.sending import Sending
from dingrelay_producers.client.verbs import Audit, FindApproval, Steps, verb
from dingrelay_producers.errors import ApprovalNotFound
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.approval_actions import (
    Action,
    CommentRequest,
    TerminationRequest,
    VerdictRequest,
)
from dingrelay_tasks.approval_decide import Decision
from dingrelay_tasks.contract import Contract

if TYPE_CHECKING:
    from dingrelay_producers.client.approvals import ApprovalStatus

_Request = TypeVar("_Request", bound=Action)
_SCOPE = "approvals:write"
_ANYBODY = "*"
"""Sender of an approval that is not followed: it may be anybody's."""


class ApprovalVerbs:
    """Verbs of approvals, for the actor of the present task.

    Each verb raises `NotPermitted` where the actor may not have such a job, `ApprovalNotFound` where the approval may
    be another sender's, and `ServiceUnavailable` where Redis or the database is away.

    Args:
        settings: which generation of DingTalk's API withdraws approvals, and the default sender of jobs.
    """

    NOUN = "approval"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sending = Sending(settings)

    @verb("POST /v1/approvals/{instance}/terminate", scope=_SCOPE)
    def terminate(self, instance: str, request: TerminationRequest) -> Steps[JobStatus]:
        """Withdraw a running approval.

        DingTalk refuses it in the first 15 seconds; the job waits.
        """
        approval = yield from self._read(instance, request, always=True)
        known_since = approval.known_since if approval else None
        generation = self._settings.approval_api
        job = self._named(request).job(instance, generation, known_since=known_since)
        return (yield from self._send("terminate", instance, job, request.user))

    @verb("POST /v1/approvals/{instance}/comment", scope=_SCOPE)
    def comment(self, instance: str, request: CommentRequest) -> Steps[JobStatus]:
        """Add a comment to an approval."""
        yield from self._read(instance, request)
        job = self._named(request).job(instance)
        return (yield from self._send("comment", instance, job, request.user))

    @verb("POST /v1/approvals/{instance}/agree", scope=_SCOPE)
    def agree(self, instance: str, request: VerdictRequest) -> Steps[JobStatus]:
        """Agree to an approval in the name of an approver."""
        return (yield from self._decide("agree", instance, request))

    @verb("POST /v1/approvals/{instance}/refuse", scope=_SCOPE)
    def refuse(self, instance: str, request: VerdictRequest) -> Steps[JobStatus]:
        """Refuse an approval in the name of an approver."""
        return (yield from self._decide("refuse", instance, request))

    def _decide(
        self, decision: Decision, instance: str, request: VerdictRequest
    ) -> Steps[JobStatus]:
        yield from self._read(instance, request)
        job = self._named(request).job(instance, decision)
        return (yield from self._send(decision, instance, job, request.user))

    def _read(
        self, instance: str, request: Action, *, always: bool = False
    ) -> Steps["ApprovalStatus | None"]:
        """The approval, once it is clear that the actor may; None if it is not followed.

        It is read `always`, or only where its sender decides.
        """
        reach, app, lane = current_reach(), request.app, request.lane
        reach.check(_SCOPE, app=app, lane=lane, sender=request.sender)
        if not always and reach.reaches(_SCOPE, app=app, lane=lane, sender=_ANYBODY):
            return None
        approval: ApprovalStatus | None = yield FindApproval(app, instance)
        sender = approval.sender if approval else _ANYBODY
        if not reach.reaches(_SCOPE, app=app, lane=lane, sender=sender):
            raise ApprovalNotFound(instance)
        return approval

    def _named(self, request: _Request) -> _Request:
        """The request with the sender of its job."""
        sender = request.sender or current_reach().default_sender or self._settings.sender
        return request.model_copy(update={"sender": sender})

    def _send(
        self, action: str, instance: str, job: Contract, user: str | None
    ) -> Steps[JobStatus]:
        """Have a job accepted that acts in a person's name, once the audit has it."""
        after = {"user": user} if user else None
        yield Audit(action, self.NOUN, [instance], job.app, "", after=after)
        return (yield from self._sending.make(job))
