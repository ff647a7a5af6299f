"""Of two reads the newer stays, whichever is written last."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import permutations
from typing import Any

import pytest

from dingrelay_tasks.organisation import Department, Member
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.directory.order import CLOCK_SET_BACK_MS
from dingrelay_workers.directory.store import AppDirectory
from listings import all_users, users_below
from rows import all_of
from tables import prepare

Write = Callable[[AppDirectory], Awaitable[Any]]


def answered(*departments: int, **fields: Any) -> Write:
    """A user's own answer."""
    member = Member("ann", {"dept_id_list": list(departments), **fields})
    return lambda directory: directory.put_user(f"put{directory._read_at}", member, calls=1)


def unknown() -> Write:
    """DingTalk does not know the user."""
    return lambda directory: directory.drop_user(f"drop{directory._read_at}", "ann", calls=1)


def listed(department: int, *members: Member, below: tuple[int, ...] = ()) -> Write:
    """A walk's read of a department."""

    async def write(directory: AppDirectory) -> None:
        run = f"walk{directory._read_at}"
        children = [Department(child, {"name": f"d{child}"}) for child in below]
        await directory.open_run(run, scope="department", roots=[], calls=0)
        await directory.fill(
            run, Department(department, {}), children=children, members=members, calls=1
        )

    return write


def department(number: int, *, gone: bool = False, **fields: Any) -> Write:
    """A department's own answer."""

    async def write(directory: AppDirectory) -> None:
        run = f"event{directory._read_at}"
        await directory.open_run(run, scope="event", roots=[], calls=0)
        met = [] if gone else [Department(number, fields)]
        await directory.note_departments(run, met=met, hidden=[], gone=[number] if gone else [])

    return write


ANN = Member("ann", {"name": "listed"})

CASES: dict[str, list[Write]] = {
    "a person who left": [answered(2, name="old"), unknown()],
    "a person who left before they were known": [answered(2), unknown(), unknown()],
    "a person who came back": [answered(2), unknown(), answered(3, name="new")],
    "a list after an answer": [answered(2, name="old", manager_userid="m"), listed(2, ANN)],
    "an answer after a list": [listed(2, ANN), answered(3, name="new", manager_userid="m")],
    "a move": [listed(2, ANN), answered(3), listed(2), listed(3, ANN)],
    "a person who left after a list": [listed(2, ANN), unknown()],
    "a department that is gone": [answered(2), department(2, name="x"), department(2, gone=True)],
    "a department that moved": [
        listed(1, below=(2,)),
        department(2, parent_id=3),
        listed(3, below=(2,)),
    ],
    "a name of a department": [
        department(2, name="old", parent_id=1, order=7),
        listed(1, below=(2,)),
        department(2, order=8),
    ],
}


async def state(database: Database, app: str) -> Any:
    """All that a reader sees of an app's directory."""
    users = await all_of(database, UserRow, UserRow.app == app, UserRow.left_at.is_(None))
    known = DepartmentRow.left_at.is_(None), DepartmentRow.read_at + DepartmentRow.detailed_at > 0
    departments = await all_of(database, DepartmentRow, DepartmentRow.app == app, *known)
    memberships = await all_of(database, MembershipRow, MembershipRow.app == app)
    return (
        {row["userid"]: row["fields"] for row in users},
        {row["id"]: (row["parent"], row["name"], row["fields"]) for row in departments},
        {(row["department"], row["userid"]) for row in memberships},
    )


@pytest.fixture
async def one_database(sqlite_url: str) -> AsyncIterator[Database]:
    prepare(sqlite_url)
    database = Database(sqlite_url)
    yield database
    await database.dispose()


@pytest.mark.parametrize("case", CASES)
async def test_the_order_of_writes_does_not_matter(one_database: Database, case: str) -> None:
    writes = CASES[case]
    seen: list[Any] = []
    for order in permutations(range(len(writes))):
        app = "-".join(map(str, order))
        for index in order:
            await writes[index](AppDirectory(one_database, app, read_at=100 + index))
        seen.append(await state(one_database, app))
    assert seen == seen[:1] * len(seen)


async def test_a_read_with_a_time_in_the_future_is_overwritten(database: Database) -> None:
    late = CLOCK_SET_BACK_MS + 1_000
    await answered(2, name="by a clock that was set back")(
        AppDirectory(database, "default", read_at=late)
    )
    directory = AppDirectory(database, "default", read_at=500)
    await answered(3, name="now")(directory)
    assert await users_below(directory, 3) == ["ann"]
    assert await users_below(directory, 2) == []
    await unknown()(AppDirectory(database, "default", read_at=600))
    assert await all_users(directory) == []
