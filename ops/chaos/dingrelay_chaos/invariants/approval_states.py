"""8: every approval that is followed stands as it does at DingTalk, and what jobs did to it is there."""

from collections.abc import Iterator
from typing import Any

from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.requests import ActionRequest
from dingrelay_chaos.system import System
from dingrelay_producers import State
from dingrelay_sandbox.report_types import ApprovalReport

DECISIONS = {"agree": "AGREE", "refuse": "REFUSE"}
NOT_DONE = frozenset({State.DEAD, State.CANCELLED, State.EXPIRED})
_STATES = {"RUNNING": "running", "COMPLETED": "cancelled", "CANCELED": "cancelled"}
_RESULTS = {"AGREE": "agreed", "REFUSE": "refused", "REDIRECTED": "redirected"}


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Rows that are missing, or tell otherwise than it is; decisions that were not taken."""
    instances = {each["id"]: each for each in evidence.snapshot.approvals}
    rows = evidence.system_state.approvals
    for instance in _followed(evidence, system) - rows.keys():
        yield Violation(8, f"nobody follows the approval {instance}", instance)
    for instance, row in rows.items():
        if instance in instances:
            yield from _row(evidence, instances[instance], row)
        elif instance not in system.deleted:
            yield Violation(8, f"the approval {instance} is followed, and there is none", instance)
        elif row["state"] != "deleted" and not _may_have_missed(evidence, instance):
            yield Violation(8, f"{instance} is deleted, and followed as {row['state']}", instance)
        follower = evidence.system_state.followers.get(instance, "")
        if row["job"] and row["state"] != "running" and follower not in {"done", ""}:
            text = f"{instance} is {row['state']}, and the job that follows it {follower}"
            yield Violation(8, text, instance)
    for request in evidence.requests.actions:
        yield from _action(evidence, request, instances.get(request.instance))


def _followed(evidence: Evidence, system: System) -> set[str]:
    """The approvals whose jobs are done, and have been for as long as a failover may forget."""
    found: set[str] = set()
    for request in evidence.requests.approvals:
        status = evidence.statuses.get(request.job)
        if status is None or status.state != State.DONE or evidence.lost:
            continue
        if any(each.answer.startswith(("True", "resolved")) for each in
               evidence.requests.commands_on(request.job, "resolve")):  # fmt: skip
            continue
        found.add(str((status.result or {}).get("instance_id")))
    return found - system.deleted


def _row(evidence: Evidence, true: ApprovalReport, row: dict[str, Any]) -> Iterator[Violation]:
    instance = true["id"]
    state = true_state(true)
    if row["state"] != state:
        yield Violation(8, f"{instance} is {state}, and followed as {row['state']}", instance)
    tasks = task_states(true)
    followed = {
        each["task"]: (each["user"], each["state"])
        for each in evidence.system_state.tasks.get(instance, ())
    }
    if followed == tasks:
        return
    if row["source"] == "event" and _may_have_missed(evidence, instance):
        # Once it has ended nobody asks any more. What is known of its tasks is true all the same.
        followed = {task: each for task, each in followed.items() if each[1] != "cancelled"}
        tasks = {task: each for task, each in tasks.items() if task in followed}
    if followed != tasks:
        yield Violation(
            8, f"the tasks of {instance} are {tasks}, and followed as {followed}", instance
        )


def true_state(true: ApprovalReport) -> str:
    """How an approval stands at DingTalk, in our words."""
    if true["status"] == "COMPLETED":
        return "approved" if true["result"] == "agree" else "refused"
    return true["status"].lower()


def task_states(true: ApprovalReport) -> dict[str, tuple[str, str]]:
    """Task → whose it is and how it stands at DingTalk, in our words."""
    return {str(each["id"]): (each["user"], _task_state(each)) for each in true["tasks"]}


def _task_state(task: Any) -> str:
    return _RESULTS.get(task["result"]) or _STATES[task["status"]]


def _may_have_missed(evidence: Evidence, instance: str) -> bool:
    return any(
        event["id"] in evidence.lost_events and event["fields"].get("processInstanceId") == instance
        for event in evidence.system_state.events
    )


def _action(
    evidence: Evidence, request: ActionRequest, true: ApprovalReport | None
) -> Iterator[Violation]:
    """Whether what a job says that it did was done, once; and nothing of what it says it did not."""
    status = evidence.statuses.get(request.job)
    if status is None or true is None or request.verb == "look":
        return
    times = sum(each["remark"] == request.remark for each in true["records"])
    if times > 1:
        yield Violation(8, f"{request.job} did {request.verb} {times} times", request.job)
    if status.state in NOT_DONE and times:
        text = f"{request.job} is {status.state}, and {request.verb} was done"
        yield Violation(8, text, request.job)
    if status.state != State.DONE or times:
        return
    decided = any(
        each["user"] == request.user and each["result"] == DECISIONS.get(request.verb)
        for each in true["tasks"]
    )
    if not decided:
        yield Violation(8, f"{request.job} is done, and {request.verb} was not", request.job)
