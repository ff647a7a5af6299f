"""approval-follow: keeps the state of an approval right until it has ended (design §19).

DingTalk tells of changes by events, and events get lost. So the job looks at the approval's row on
a slow schedule, and asks DingTalk where no event has moved it meanwhile. It is one job an approval,
which waits on the schedule of all jobs: no table is searched, and a crash loses nothing.
"""

from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from dingrelay_tasks.context import ApprovalChange, Context, Followed, Json
from dingrelay_tasks.contract import EVENTS_QUEUE, Contract, Part
from dingrelay_tasks.outcomes import Wait

NOT_FOUND_BEFORE = timedelta(minutes=1)
"""A new approval may not be readable everywhere at once: what can't be found later is deleted."""

InstanceId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
"""DingTalk's id of an approval instance."""


class ApprovalFollow(Contract):
    """Follow an approval until it has ended.

    Attributes:
        instance: its id.
        job: the job that created it; empty for one that somebody else created.
        template: its process code.
        originator: who asked for it.
    """

    kind: ClassVar[str] = "approval-follow"
    own_queue: ClassVar[str] = EVENTS_QUEUE

    instance: InstanceId
    job: str = ""
    template: str = ""
    originator: str = ""

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} {self.instance}"


class ApprovalFollowResult(Part):
    """How the approval ended."""

    state: str
    looks: int


async def run(job: ApprovalFollow, ctx: Context) -> Json:
    """Look at the approval's row, and ask DingTalk where nothing was heard of it for long.

    Returns:
        An `ApprovalFollowResult` as JSON values, once the approval has ended.

    Raises:
        Wait: it runs, or it is not known how its tasks ended.
    """
    row = await ctx.approval_states.open(
        job.instance,
        job=job.job,
        template=job.template,
        originator=job.originator,
        sender=job.sender,
        at=ctx.now(),
    )
    if row.look_at is not None and row.look_at <= ctx.now():
        row = await _look(job, row, ctx)
    if not row.ended:
        raise Wait(_until(row, ctx), "the approval is not decided")
    if row.look_at is not None:
        raise Wait(_until(row, ctx), "it is not known how each approver decided")
    return ApprovalFollowResult(state=row.state, looks=row.looks).model_dump(mode="json")


async def _look(job: ApprovalFollow, row: Followed, ctx: Context) -> Followed:
    """The row after DingTalk was asked.

    Raises:
        Wait: the month's share of such calls is used up, or DingTalk could not be asked now.
    """
    await ctx.approval_states.spend_look()
    asked_at = ctx.now()
    change = await ctx.approvals.look(job.instance, patient=True)
    if change is None:
        if asked_at - row.known_since < NOT_FOUND_BEFORE:
            raise Wait(NOT_FOUND_BEFORE, "the approval can't be found yet")
        change = ApprovalChange(instance=job.instance, source="look", state="deleted")
    return await ctx.approval_states.record(change, at=asked_at) or row


def _until(row: Followed, ctx: Context) -> timedelta:
    assert row.look_at, "an approval that runs is looked at again"
    return max(row.look_at - ctx.now(), timedelta(seconds=1))
