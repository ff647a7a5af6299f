"""3: no approval twice for one job, none for a job that is dead or cancelled; done ones exist.

8: every approval that is followed stands as it does at DingTalk, and what jobs did to it is there.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from dingrelay_chaos.dingtalk import holds
from dingrelay_chaos.evidence import Evidence, Finding
from dingrelay_chaos.operations import Acted, Approve
from dingrelay_chaos.requests import Request
from dingrelay_producers import State
from dingrelay_sandbox.admin import Row

SILENT_ENDS = frozenset({State.CANCELLED, State.EXPIRED, State.DEAD})
DECISIONS = {"agree": "AGREE", "refuse": "REFUSE"}
_STATES = {"RUNNING": "running", "COMPLETED": "cancelled", "CANCELED": "cancelled"}
_RESULTS = {"AGREE": "agreed", "REFUSE": "refused", "REDIRECTED": "redirected"}


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Judged by groups of equal forms: an instance may be any job's of its group."""
    groups: dict[str, list[Request[Approve]]] = {}
    for request in evidence.requests.of(Approve):
        groups.setdefault(request.what.tag, []).append(request)
    for tag, group in groups.items():
        yield from _group(evidence, tag, group, evidence.system.deleted)
    for instance in evidence.snapshot.approvals:
        if not any(holds(instance, tag) for tag in groups):
            yield f"{instance['id']} was not asked for: {instance['form']}", ""


def _group(
    evidence: Evidence, tag: str, group: list[Request[Approve]], deleted: Collection[str]
) -> Iterator[Finding]:
    made = {each["id"] for each in evidence.snapshot.instances(tag)}
    jobs = {each.job for each in group if each.job and each.accepted == "yes"}
    # Of those that were discarded, only one that was unknown may have made one.
    found = {job: evidence.statuses.get(job) for job in jobs}
    states = {job: status.state if status else None for job, status in found.items()}
    done = [job for job, state in states.items() if state == State.DONE]
    named = Counter(_instance(evidence, job) for job in done)
    for job in done:
        if _instance(evidence, job) not in {*made, *deleted}:
            yield f"{job} is done and names an instance that does not exist", job
    for instance, count in named.items():
        if count > 1:
            owners = [job for job in done if _instance(evidence, job) == instance]
            yield f"{owners} all name the instance {instance}", owners[0]
    # An unknown job may have made one; so may one whose acceptance is not known.
    perhaps = sum(state in {State.UNKNOWN, None} for state in states.values())
    perhaps += sum(each.accepted == "perhaps" for each in group)
    # A failover may have lost the note of a call, and its job was cancelled after that.
    unnoted = sum(each["call_id"] in evidence.unnoted for each in evidence.snapshot.instances(tag))
    perhaps += min(unnoted, sum(state in SILENT_ENDS for state in states.values()))
    # One that a person discarded or resolved is settled by their word.
    if len(made) > len(done) + perhaps:
        shown = {job: str(state) for job, state in states.items()}
        text = f"{tag!r} exists {len(made)} times for jobs that are {shown}"
        yield text, _suspect(evidence, states)


def _instance(evidence: Evidence, job: str) -> str:
    status = evidence.statuses[job]
    return str((status.result or {}).get("instance_id", "")) if status else ""


def _suspect(evidence: Evidence, states: dict[str, State | None]) -> str:
    """The job that most likely made one too many: one that ended otherwise, or was tried most."""
    others = [job for job, state in states.items() if state not in {State.DONE, State.UNKNOWN}]
    if others:
        return others[0]
    return max(states, key=lambda job: (s := evidence.statuses[job]) is not None and s.attempts)


def violations_of_states(evidence: Evidence) -> Iterator[Finding]:
    """Rows that are missing or not true; decisions that were not taken."""
    instances = {each["id"]: each for each in evidence.snapshot.approvals}
    rows = evidence.system_state.approvals
    for instance in _followed(evidence) - rows.keys():
        yield f"the approval {instance} is not followed", instance
    for instance, row in rows.items():
        if instance in instances:
            yield from _row(evidence, instances[instance], row)
        elif instance not in evidence.system.deleted:
            yield f"the approval {instance} is followed, and there is none", instance
        elif row["state"] != "deleted" and not _may_have_missed(evidence, instance):
            yield f"{instance} is deleted, and followed as {row['state']}", instance
        follower = evidence.system_state.followers.get(instance, "")
        if row["job"] and row["state"] != "running" and follower not in {"done", ""}:
            text = f"{instance} is {row['state']}, and the job that follows it {follower}"
            yield text, instance
    for request in evidence.requests.of(Acted):
        yield from _action(evidence, request, instances.get(request.what.instance))


def _followed(evidence: Evidence) -> set[str]:
    """The approvals whose jobs are done, and have been for as long as a failover may forget."""
    found: set[str] = set()
    for request in evidence.requests.of(Approve):
        status = evidence.statuses.get(request.job)
        if status is None or status.state != State.DONE or evidence.lost:
            continue
        if any(each.answer.startswith(("True", "resolved")) for each in
               evidence.requests.commands_on(request.job, "resolve")):  # fmt: skip
            continue
        found.add(str((status.result or {}).get("instance_id")))
    return found - evidence.system.deleted


def _row(evidence: Evidence, true: Row, row: Row) -> Iterator[Finding]:
    instance = true["id"]
    state = true_state(true)
    if row["state"] != state:
        yield f"{instance} is {state}, and followed as {row['state']}", instance
    tasks = task_states(true)
    followed = {
        each["task"]: (each["user"], each["state"])
        for each in evidence.system_state.tasks.get(instance, ())
    }
    if followed == tasks:
        return
    if row["source"] == "event" and _may_have_missed(evidence, instance):
        # Once it has ended it is not asked for any more. What is known of its tasks is true all the same.
        followed = {task: each for task, each in followed.items() if each[1] != "cancelled"}
        tasks = {task: each for task, each in tasks.items() if task in followed}
    if followed != tasks:
        yield f"the tasks of {instance} are {tasks}, and followed as {followed}", instance


def true_state(true: Row) -> str:
    """How an approval stands at DingTalk, in our words."""
    if true["status"] == "COMPLETED":
        return "approved" if true["result"] == "agree" else "refused"
    return str(true["status"]).lower()


def task_states(true: Row) -> dict[str, tuple[str, str]]:
    """Task → whose it is and how it stands at DingTalk, in our words."""
    return {str(each["id"]): (each["user"], _task_state(each)) for each in true["tasks"]}


def _task_state(task: Any) -> str:
    return _RESULTS.get(task["result"]) or _STATES[task["status"]]


def _may_have_missed(evidence: Evidence, instance: str) -> bool:
    return any(
        event["id"] in evidence.lost_events and event["fields"].get("processInstanceId") == instance
        for event in evidence.system_state.events
    )


def _action(evidence: Evidence, request: Request[Acted], true: Row | None) -> Iterator[Finding]:
    """Whether what a job says that it did was done, once; and nothing of what it says it did not."""
    status, what = evidence.statuses.get(request.job), request.what
    if status is None or true is None or what.verb == "look":
        return
    times = sum(each["remark"] == what.remark for each in true["records"])
    if times > 1:
        yield f"{request.job} did {what.verb} {times} times", request.job
    if status.state in SILENT_ENDS and times:
        text = f"{request.job} is {status.state}, and {what.verb} was done"
        yield text, request.job
    if status.state != State.DONE or times:
        return
    decided = any(
        each["user"] == what.user and each["result"] == DECISIONS.get(what.verb)
        for each in true["tasks"]
    )
    if not decided:
        yield f"{request.job} is done, and {what.verb} was not", request.job
