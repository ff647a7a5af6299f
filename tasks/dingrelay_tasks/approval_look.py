"""approval-look: asks DingTalk for the current state of an approval."""

from dingrelay_tasks.approval_follow import InstanceId
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import EVENTS_QUEUE, Contract, Json
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Refused


class ApprovalLook(Contract):
    """Ask for the state of an approval; if it is followed, the answer is stored.

    Attributes:
        instance: its id.
    """

    instance: InstanceId


@kind(
    "approval-look",
    ApprovalLook,
    summary="{0.instance}",
    queue=EVENTS_QUEUE,
    api="approval.read",
    reported=True,
)
async def run(job: ApprovalLook, ctx: Context) -> Json:
    """Ask, and store the answer.

    Returns:
        The `state`, None if DingTalk's answer holds none that is known, and the tasks that are `open`.

    Raises:
        Refused: there is no such approval.
    """
    asked_at = ctx.now()
    change = await ctx.approvals.look(job.instance)
    if change is None:
        raise Refused("no_approval", "DingTalk knows no approval with this id", "Check id and app.")
    await ctx.approval_states.record(change, at=asked_at)
    open_ = [task for task in change.tasks if task.state == "running"]
    return {"state": change.state, "open": [{"id": task.id, "user": task.user} for task in open_]}
