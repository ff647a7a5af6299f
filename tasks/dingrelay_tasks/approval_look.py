"""approval-look: asks DingTalk for the current state of an approval."""

from dingrelay_tasks.approval_follow import InstanceId
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import EVENTS_QUEUE, Contract, Json, Part
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Refused


class ApprovalLook(Contract):
    """Ask for the state of an approval; if it is followed, the answer is stored.

    Attributes:
        instance: its id.
    """

    instance: InstanceId

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} {self.instance}"


class OpenTask(Part):
    """An open task of an approver."""

    id: str
    user: str


class ApprovalLookResult(Part):
    """The state of the approval.

    Attributes:
        state: None if DingTalk's answer holds none that is known.
        open: the open tasks.
    """

    state: str | None
    open: list[OpenTask]


@kind("approval-look", ApprovalLook, queue=EVENTS_QUEUE, api="approval.read", reported=True)
async def run(job: ApprovalLook, ctx: Context) -> Json:
    """Ask, and store the answer; an `ApprovalLookResult` as JSON values.

    Raises:
        Refused: there is no such approval.
    """
    asked_at = ctx.now()
    change = await ctx.approvals.look(job.instance)
    if change is None:
        raise Refused("no_approval", "DingTalk knows no approval with this id", "Check id and app.")
    await ctx.approval_states.record(change, at=asked_at)
    return ApprovalLookResult(
        state=change.state,
        open=[
            OpenTask(id=task.id, user=task.user) for task in change.tasks if task.state == "running"
        ],
    ).model_dump(mode="json")
