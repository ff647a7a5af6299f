"""4: the directory equals the organisation; no one who is there is marked as left."""

from collections.abc import Collection, Iterator
from typing import Any

from dingrelay_chaos.database import Directory
from dingrelay_chaos.evidence import Evidence, Finding, Snapshot
from dingrelay_producers import JobStatus


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Compared before and after walks that began when nothing changed any more."""
    if evidence.settled.left_too_early:
        yield f"marked as left while they were there: {evidence.settled.left_too_early}", ""
    yield from _by_events(evidence)
    yield from _differences(Directory(evidence.system.database), evidence.snapshot, "after a walk")
    yield from _last_walk(evidence)


def _by_events(evidence: Evidence) -> Iterator[Finding]:
    """Every person is as their last event says, without a walk."""
    of_people: dict[str, str] = {}
    of_departments: dict[int, str] = {}
    for event in evidence.system_state.events:
        for user in event["fields"].get("userId", ()):
            of_people[user] = event["id"]
        for number in event["fields"].get("deptId", ()):
            of_departments[int(number)] = event["id"]
    lost = evidence.lost_events
    people = {user for user, event in of_people.items() if event in lost}
    departments = {number for number, event in of_departments.items() if event in lost}
    found = _differences(
        evidence.settled.by_events, evidence.snapshot, "by events", besides=people, nor=departments
    )
    yield from found
    if lost or evidence.lost or not evidence.settled.walks:
        return
    first = evidence.statuses.get(evidence.settled.walks[0])
    found_out = _found(first)
    if found_out:
        yield f"every event came, and a walk found {found_out}", evidence.settled.walks[0]


def _last_walk(evidence: Evidence) -> Iterator[Finding]:
    """After a walk another one finds nothing."""
    if len(evidence.settled.walks) > 1 and (
        found := _found(evidence.statuses.get(evidence.settled.walks[-1]))
    ):
        yield f"a walk after a walk found {found}", evidence.settled.walks[-1]


def _found(status: JobStatus | None) -> dict[str, int]:
    result = (status and status.result) or {}
    return {name: result[name] for name in ("added", "changed", "left") if result.get(name)}


def _differences(
    directory: Directory,
    snapshot: Snapshot,
    when: str,
    *,
    besides: Collection[str] = (),
    nor: Collection[int] = (),
) -> Iterator[Finding]:
    """How the directory differs from the organisation, but for some people and departments."""
    stored: dict[Any, Any] = {
        user: (name, directory.places.get(user, set()) - {*nor})
        for user, name in directory.people.items()
        if user not in besides
    }
    true: dict[Any, Any] = {
        user: (each["name"], {*each["dept_id_list"]} - {*nor})
        for user, each in snapshot.people.items()
        if user not in besides
    }
    stored |= {
        number: (name, parent or 0)
        for number, (name, parent) in directory.departments.items()
        if number not in nor
    }
    true |= {
        number: (each["name"], each.get("parent_id") or 0)
        for number, each in snapshot.departments.items()
        if number not in nor
    }
    for of in sorted(stored.keys() | true.keys(), key=str):
        if stored.get(of) != true.get(of):
            text = f"{of} is {true.get(of)}, in the directory {when} {stored.get(of)}"
            yield text, of if isinstance(of, str) else ""
