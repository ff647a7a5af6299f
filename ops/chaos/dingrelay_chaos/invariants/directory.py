"""4: the directory equals the organisation; no one who is there is marked as left."""

from collections.abc import Collection, Iterator

from dingrelay_chaos.database import Directory
from dingrelay_chaos.evidence import Evidence, Finding, Snapshot
from dingrelay_producers import JobStatus


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Compared before and after walks that began when nothing changed any more."""
    if evidence.left_too_early:
        yield f"marked as left while they were there: {evidence.left_too_early}", ""
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
        evidence.by_events, evidence.snapshot, "by events", besides=people, nor=departments
    )
    yield from found
    if lost or evidence.lost or not evidence.walks:
        return
    first = evidence.statuses.get(evidence.walks[0])
    found_out = _found(first)
    if found_out:
        yield f"every event came, and a walk found {found_out}", evidence.walks[0]


def _last_walk(evidence: Evidence) -> Iterator[Finding]:
    """After a walk another one finds nothing."""
    if len(evidence.walks) > 1 and (found := _found(evidence.statuses.get(evidence.walks[-1]))):
        yield f"a walk after a walk found {found}", evidence.walks[-1]


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
    here = {user: name for user, name in directory.people.items() if user not in besides}
    people = {user: each for user, each in snapshot.people.items() if user not in besides}
    if missing := sorted(people.keys() - here.keys()):
        yield f"not in the directory {when}: {missing}", missing[0]
    if gone := sorted(here.keys() - people.keys()):
        yield f"in the directory {when}, and not there: {gone}", gone[0]
    both = people.keys() & here.keys()
    if changed := sorted(user for user in both if here[user] != people[user]["name"]):
        yield f"another name than in the directory {when}: {changed}", changed[0]
    for user in sorted(both):
        where = set(people[user]["dept_id_list"]) - set(nor)
        places = directory.places.get(user, set()) - set(nor)
        if places != where:
            text = f"{user} is in departments {where}, in the directory {when} in {places}"
            yield text, user
    known = {number: each for number, each in directory.departments.items() if number not in nor}
    there = {
        number: (each["name"], each.get("parent_id"))
        for number, each in snapshot.departments.items()
        if number not in nor
    }
    for number in sorted(known.keys() | there.keys()):
        stored, true = known.get(number), there.get(number)
        if (
            stored is None
            or true is None
            or stored[0] != true[0]
            or (stored[1] or 0) != (true[1] or 0)
        ):
            yield f"department {number} is {true}, in the directory {when} {stored}", ""
