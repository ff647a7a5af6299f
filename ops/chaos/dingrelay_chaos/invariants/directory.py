"""4: the directory equals the organisation; nobody who is there is marked as left."""

from collections.abc import Iterator

from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.system import System


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Compared after a walk that began when nothing changed any more."""
    if evidence.left_too_early:
        yield Violation(4, f"marked as left while they were there: {evidence.left_too_early}")
    rows = system.database.rows("select userid, name from users where left_at is null")
    here = {row["userid"]: row["name"] for row in rows}
    people = {user: each["name"] for user, each in evidence.truth.people.items()}
    if missing := sorted(people.keys() - here.keys()):
        yield Violation(4, f"not in the directory: {missing}")
    if gone := sorted(here.keys() - people.keys()):
        yield Violation(4, f"in the directory, and not in the organisation: {gone}")
    changed = sorted(user for user, name in people.items() if here.get(user, name) != name)
    if changed:
        yield Violation(4, f"another name than in the directory: {changed}")
    rows = system.database.rows("select department, userid from memberships")
    places: dict[str, set[int]] = {}
    for row in rows:
        places.setdefault(row["userid"], set()).add(row["department"])
    for user, each in evidence.truth.people.items():
        where = set(each["dept_id_list"])
        if user in here and places.get(user, set()) != where:
            text = f"{user} is in departments {where}, in the directory in {places.get(user)}"
            yield Violation(4, text)
    rows = system.database.rows("select id from departments where left_at is null")
    departments = {int(row["id"]) for row in rows}
    if departments != set(evidence.truth.departments):
        yield Violation(4, f"departments {sorted(departments)} in the directory")
