"""3: no approval twice for one job, none for a job that is dead or cancelled; done ones exist."""

from collections import Counter
from collections.abc import Collection, Iterator

from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.requests import ApprovalRequest
from dingrelay_chaos.system import System
from dingrelay_producers import State

SILENT_ENDS = frozenset({State.CANCELLED, State.EXPIRED, State.DEAD})


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Judged by groups of equal forms: nobody can say whose of them an instance is."""
    groups: dict[str, list[ApprovalRequest]] = {}
    for request in evidence.requests.approvals:
        groups.setdefault(request.tag, []).append(request)
    for tag, group in groups.items():
        yield from _group(evidence, tag, group, system.deleted)
    known = set(groups)
    for instance in evidence.snapshot.approvals:
        if not any(tag in dict(instance["form"]).values() for tag in known):
            yield Violation(3, f"nobody asked for {instance['id']}: {instance['form']}")


def _group(
    evidence: Evidence, tag: str, group: list[ApprovalRequest], deleted: Collection[str]
) -> Iterator[Violation]:
    made = {each["id"] for each in evidence.snapshot.instances(tag)}
    jobs = {each.job for each in group if each.job and each.accepted == "yes"}
    states = {job: _state(evidence, job) for job in jobs}
    done = [job for job, state in states.items() if state == State.DONE]
    named = Counter(_instance(evidence, job) for job in done)
    for job in done:
        if _instance(evidence, job) not in {*made, *deleted}:
            yield Violation(3, f"{job} is done and names an instance that does not exist", job)
    for instance, count in named.items():
        if count > 1:
            owners = [job for job in done if _instance(evidence, job) == instance]
            yield Violation(3, f"{owners} all name the instance {instance}", owners[0])
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
        yield Violation(3, text, _suspect(evidence, states, made))


def _state(evidence: Evidence, job: str) -> State | None:
    status = evidence.statuses.get(job)
    if status is not None:
        return status.state
    # A discarded job that was dead has made none: only one that was unknown may have.
    return None


def _instance(evidence: Evidence, job: str) -> str:
    status = evidence.statuses[job]
    return str((status.result or {}).get("instance_id", "")) if status else ""


def _suspect(evidence: Evidence, states: dict[str, State | None], made: set[str]) -> str:
    """The job that most likely made one too many: one that ended otherwise, or was tried most."""
    others = [job for job, state in states.items() if state not in {State.DONE, State.UNKNOWN}]
    if others:
        return others[0]
    return max(states, key=lambda job: (s := evidence.statuses[job]) is not None and s.attempts)
