"""Actions on an approval: withdraw it, comment on it, decide it (API §4.2, §4.3, §11.8).

Withdrawing is refused by DingTalk the second time, so where an answer is lost it is asked for
again. A comment would be there twice: such a job ends `unknown`.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.approval_decide import LONGEST_REMARK, ApprovalDecide, Decision, Remark
from dingrelay_tasks.approval_follow import InstanceId
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import AppName, Document, Json, Lane, SenderName, UserId

Generation = Literal["v1.0", "topapi"]
WITHDRAWN_AFTER = 16
"""Seconds after its creation from which an approval can be withdrawn: DingTalk refuses it within 15
(API §4.2)."""


class _Approval(Document):
    """The approval that an action is about."""

    instance: InstanceId


class Action(Document):
    """An action on an approval.

    Attributes:
        app: the application that may.
        lane: of the job that does it.
        sender: of the job.
    """

    app: AppName = "default"
    lane: Lane = "normal"
    sender: SenderName = ""

    def _call(self, instance: str, path: str, body: Json, **more: Any) -> ApiCall:
        _Approval(instance=instance)
        envelope = {"app": self.app, "lane": self.lane, "sender": self.sender}
        return ApiCall(**envelope, method="POST", path=path, body=body, **more)


class TerminationRequest(Action):
    """Withdraw a running approval.

    Attributes:
        reason: shown to the approvers.
        user: the originator, to withdraw it in their name; null to withdraw it as the system.
    """

    reason: Annotated[Remark, Asked("Reason, shown to the approvers.")] = ""
    user: Annotated[
        UserId | None,
        Asked("Userid or name of the originator, to withdraw it in their name."),
    ] = None

    def job(
        self, instance: str, generation: Generation, *, known_since: datetime | None = None
    ) -> ApiCall:
        """The job; `known_since` is when the approval was there already, if that is known."""
        send_at = known_since and known_since + timedelta(seconds=WITHDRAWN_AFTER)
        if generation == "topapi":
            path = "/topapi/process/instance/terminate"
            request: Json = {
                "process_instance_id": instance,
                "is_system": self.user is None,
                "remark": self.reason,
                **({"operating_userid": self.user} if self.user else {}),
            }
            body: Json = {"request": request}
        else:
            path = "/v1.0/workflow/processInstances/terminate"
            body = {
                "processInstanceId": instance,
                "isSystem": self.user is None,
                "remark": self.reason,
                **({"operatingUserId": self.user} if self.user else {}),
            }
        return self._call(instance, path, body, effect="repeatable", send_at=send_at)


class CommentRequest(Action):
    """Add a comment in a user's name."""

    text: Annotated[
        str, Field(min_length=1, max_length=LONGEST_REMARK), Asked("The comment.", argument=True)
    ]
    user: Annotated[
        UserId, Asked("Userid or name of the person in whose name the comment is made.")
    ]

    def job(self, instance: str) -> ApiCall:
        """The job."""
        body = {"processInstanceId": instance, "text": self.text, "commentUserId": self.user}
        return self._call(instance, "/v1.0/workflow/processInstances/comments", body, effect="once")


class VerdictRequest(Action):
    """Decide in the name of an approver."""

    user: Annotated[UserId, Asked("Userid or name of the approver in whose name it is done.")]
    remark: Annotated[Remark, Asked("The approver's remark.")] = ""

    def job(self, instance: str, decision: Decision) -> ApprovalDecide:
        """The job."""
        return ApprovalDecide(instance=instance, decision=decision, **self.model_dump())
