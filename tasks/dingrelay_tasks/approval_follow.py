"""approval-follow: keeps the state of an approval right until it has ended (design §19); approval-look asks once.

DingTalk reports changes by events, and events get lost. So the job reads the approval's row on
a slow schedule, and queries DingTalk where no event has moved it since. It is one job an approval,
which waits on the schedule of all jobs: no table is searched, and a crash loses nothing.
"""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from dingrelay_tasks.context import ApprovalChange, Context, Followed, since
from dingrelay_tasks.contract import EVENTS_QUEUE, Contract, Json
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.sentence import en

DENIED_AGAIN_AFTER = timedelta(minutes=1)
"""After which DingTalk is queried again for an approval that it does not know: a new one may not be
readable everywhere at once, and a single denial may be wrong."""

InstanceId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
"""DingTalk's id of an approval instance."""


class ApprovalFollow(Contract):
    """Follow an approval until it has ended.

    The job that created it is found by the approval.

    Attributes:
        instance: its id.
    """

    instance: InstanceId


@kind(
    "approval-follow",
    ApprovalFollow,
    summary="{0.instance}",
    queue=EVENTS_QUEUE,
    api="approval.read",
)
async def run(job: ApprovalFollow, ctx: Context) -> Json:
    """Look at the approval's row, and ask DingTalk where nothing was reported of it for long.

    Returns:
        `state` and number of `looks`, once the approval has ended; no state if it is followed for another
        app, or not any more.

    Raises:
        Wait: it runs, or it is not known how its tasks ended.
    """
    row = await ctx.approval_states.open(job.instance, at=ctx.now())
    if row and row.look_at is not None and row.look_at <= ctx.now():
        row = await _look_at_instance(job, row.look_at, ctx)
    if row is None:
        return {"state": "", "looks": 0}
    if row.look_at is not None:
        wait = max(row.look_at - ctx.now(), timedelta(seconds=1))
        open_ = (
            en("it is not known how each approver decided")
            if row.ended
            else en("it is not decided")
        )
        raise Wait(wait, open_)
    return {"state": row.state, "looks": row.looks}


async def _look_at_instance(job: ApprovalFollow, due: datetime, ctx: Context) -> Followed | None:
    """The row after DingTalk was queried; None if the approval is not followed any more.

    Raises:
        Wait: the month's share of such calls is used up, DingTalk could not be queried now, or is to
            be queried again, since it does not know the approval.
    """
    asked_at = ctx.now()
    async with ctx.approval_states.charged_look():
        change = await ctx.approvals.look(job.instance, patient=True)
    if change is None:
        again = await since(ctx, f"denied:{due.isoformat()}") + DENIED_AGAIN_AFTER
        if asked_at < again:
            raise Wait(again - asked_at, "DingTalk does not know the approval, and is asked again")
        change = ApprovalChange(instance=job.instance, source="look", state="deleted")
    return await ctx.approval_states.record(change, at=asked_at)


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
async def run_look(job: ApprovalLook, ctx: Context) -> Json:
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
