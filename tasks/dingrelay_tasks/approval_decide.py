"""approval-decide: agrees to an approval or refuses it, in the name of an approver."""

from datetime import timedelta
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from dingrelay_tasks.approval_follow import InstanceId
from dingrelay_tasks.context import ApprovalChange, ApprovalTask, Context, TaskState, remember
from dingrelay_tasks.contract import Deliverable, Json, UserId
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.sentence import en

Decision = Literal["agree", "refuse"]

TASK = "task"
"""The step that remembers which task is to be decided."""
STEP = "decide"
EXECUTE = "/v1.0/workflow/processInstances/execute"
STATES: dict[Decision, TaskState] = {"agree": "agreed", "refuse": "refused"}
"""How a task stands once it is decided."""
LONGEST_REMARK = 1024
"""Characters (API §4.2, §11.8)."""

Remark = Annotated[str, Field(max_length=LONGEST_REMARK)]


class ApprovalDecide(Deliverable):
    """Decide an open task of an approval.

    Attributes:
        instance: the approval.
        user: the approver.
        decision: ``agree`` or ``refuse``.
        remark: the approver's.
    """

    instance: InstanceId
    user: UserId
    decision: Decision
    remark: Remark = ""


@kind(
    "approval-decide",
    ApprovalDecide,
    summary="{0.decision} {0.instance}",
    api="call.rest",
    changing_step=STEP,
    reported=True,
)
async def run(job: ApprovalDecide, ctx: Context) -> Json:
    """Find the person's task and decide it; `task` is DingTalk's number of it.

    Where the answer of an earlier run was lost, the approval itself shows whether it was decided.

    Raises:
        Refused: this person is not asked, or not any more, or there is no such approval.
        Wait: a call whose answer was lost may still be under way.
    """
    decided = await ctx.step_result(STEP)
    if decided is None:
        task = await _task(job, ctx)
        if task.state == "running":
            # Before the call: after a lost answer the state of this task decides, not that of a later one.
            await remember(ctx, TASK, {"task": task.id})
            decided = await ctx.once(STEP, partial(_decide, job, task.id, ctx))
        else:
            ctx.confirm_not_executed()
            if task.state != STATES[job.decision]:
                raise Refused(
                    "decided_otherwise",
                    en("the task was {} before this decision took effect", task.state),
                    "`dingrelay approval show ID --look` shows how the approval stands.",
                )
            decided = {"task": task.id}
    await _record(job, decided["task"], ctx)
    return {"task": decided["task"]}


async def _task(job: ApprovalDecide, ctx: Context) -> ApprovalTask:
    """The person's task: an open one or, after a lost answer, the one that was to be decided.

    Raises:
        Refused: there is none.
        Wait: a call whose answer was lost may still be under way.
    """
    if ctx.intent and (wait := ctx.intent.at + ctx.settle_delay - ctx.now()) > timedelta():
        raise Wait(
            min(wait, ctx.settle_delay), "a decision whose answer was lost may still take effect"
        )
    queried_at = ctx.now()
    change = await ctx.approvals.look(job.instance)
    if change is None:
        raise Refused("no_approval", "DingTalk knows no such approval", "Check its id and the app.")
    await ctx.approval_states.record(change, at=queried_at)
    tasks = [task for task in change.tasks if task.user == job.user]
    if ctx.intent and (remembered := await ctx.step_result(TASK)):
        tasks = [task for task in tasks if task.id == remembered["task"]]
    open_ = [task for task in tasks if task.state == "running"]
    if not (open_ or (ctx.intent and tasks)):
        raise Refused(
            "nothing_to_decide",
            "the user has no open task of this approval",
            "`dingrelay approval show ID --look` lists the open tasks.",
        )
    return open_[0] if open_ else tasks[-1]


async def _decide(job: ApprovalDecide, task: str, ctx: Context) -> Json:
    """Decide it; raises `Refused` where DingTalk says no without a code."""
    body: Json = {
        "processInstanceId": job.instance,
        "taskId": int(task) if task.isdecimal() else task,
        "actionerUserId": job.user,
        "result": job.decision,
        "remark": job.remark,
    }
    answer = await ctx.call(method="POST", path=EXECUTE, query={}, body=body, changes=True)
    # Answers of calls by path are passed on unchanged, also a refusal without a code.
    if any(str(answer.get(name)).lower() == "false" for name in ("success", "result")):
        raise Refused(
            "not_decided",
            "DingTalk answered that the decision did not succeed",
            "`dingrelay approval show ID --look` shows how the approval stands.",
        )
    return {"task": task}


async def _record(job: ApprovalDecide, task: str, ctx: Context) -> None:
    """Update the table at once: the event comes later, or not."""
    decided = ApprovalTask(id=task, user=job.user, state=STATES[job.decision], ended=ctx.now())
    change = ApprovalChange(instance=job.instance, source="event", tasks=[decided])
    await ctx.approval_states.record(change, at=ctx.now())
