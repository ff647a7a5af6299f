"""Withdrawing an approval and commenting on it: each is an `api-call` (API §4.2, §4.3, §11.8).

Withdrawing is refused by DingTalk the second time, so where an answer is lost it is asked for
again. A comment would be there twice: such a job ends `unknown`.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.approval_decide import LONGEST_REMARK, Remark
from dingrelay_tasks.approval_follow import InstanceId
from dingrelay_tasks.contract import AppName, Document, Lane, SenderName, UserId

Generation = Literal["v1.0", "topapi"]
WITHDRAWN_AFTER = 16
"""Seconds after its creation from which an approval can be withdrawn: DingTalk refuses it within 15
(API §4.2)."""


class Action(Document):
    """An action on an approval.

    Attributes:
        instance: the approval.
        app: the application that may.
        lane: of the job that does it.
        sender: of the jobs.
        idempotency_key: as for every job.
    """

    instance: InstanceId
    app: AppName = "default"
    lane: Lane = "normal"
    sender: SenderName = ""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    def _call(
        self,
        path: str,
        body: dict[str, Any],
        *,
        once: bool = False,
        send_at: datetime | None = None,
    ) -> ApiCall:
        return ApiCall(
            app=self.app,
            lane=self.lane,
            sender=self.sender,
            idempotency_key=self.idempotency_key,
            method="POST",
            path=path,
            body=body,
            effect="once" if once else "repeatable",
            send_at=send_at,
        )


class Termination(Action):
    """Withdraw a running approval.

    Attributes:
        reason: shown to the approvers.
        user: the originator, to withdraw it in their name; None for the system.
    """

    reason: Remark = ""
    user: UserId | None = None

    def job(self, generation: Generation, *, known_since: datetime | None = None) -> ApiCall:
        """The job; `known_since` is when the approval was there already, if that is known."""
        send_at = known_since and known_since + timedelta(seconds=WITHDRAWN_AFTER)
        if generation == "topapi":
            request = {
                "process_instance_id": self.instance,
                "is_system": self.user is None,
                "remark": self.reason,
                **({"operating_userid": self.user} if self.user else {}),
            }
            return self._call(
                "/topapi/process/instance/terminate", {"request": request}, send_at=send_at
            )
        body = {
            "processInstanceId": self.instance,
            "isSystem": self.user is None,
            "remark": self.reason,
            **({"operatingUserId": self.user} if self.user else {}),
        }
        return self._call("/v1.0/workflow/processInstances/terminate", body, send_at=send_at)


class Comment(Action):
    """Add a comment in a user's name."""

    text: Annotated[str, Field(min_length=1, max_length=LONGEST_REMARK)]
    user: UserId

    def job(self) -> ApiCall:
        """The job."""
        body = {"processInstanceId": self.instance, "text": self.text, "commentUserId": self.user}
        return self._call("/v1.0/workflow/processInstances/comments", body, once=True)
