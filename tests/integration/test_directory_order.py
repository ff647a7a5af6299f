"""The newer of two reads stays; a person is identified by the unionid: userids change hands."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import permutations
from typing import Any

from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import ChangeRow, DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.directory.order import CLOCK_SET_BACK_MS
from dingrelay_workers.directory.store import AppDirectory
from support.databases import on_sqlite
from support.directories import all_users, users_below
from support.examples import either
from support.rows import all_of

Write = Callable[[AppDirectory], Awaitable[Any]]


def answered(*departments: int, userid: str = "ann", **fields: Any) -> Write:
    """A user's own answer."""
    member = Member(userid, {"dept_id_list": list(departments), **fields})
    return lambda found: found.put_user(f"{userid}{found.read_at}", member, calls=1)


def person(userid: str, unionid: str, **fields: Any) -> Write:
    """The answer of a person in department 2."""
    return answered(2, userid=userid, **{"name": userid, "unionid": unionid} | fields)


def unknown(userid: str = "ann") -> Write:
    """DingTalk does not know the user."""
    return lambda found: found.drop_user(f"drop-{userid}{found.read_at}", userid, calls=1)


def listed(department: int, *members: Member, below: tuple[int, ...] = ()) -> Write:
    """A walk's read of a department."""

    async def write(directory: AppDirectory) -> None:
        run = f"walk{directory.read_at}"
        children = [Department(child, {"name": f"d{child}"}) for child in below]
        await directory.open_run(run, scope="department", roots=[], calls=0)
        await directory.fill(
            run, Department(department, {}), children=children, members=members, calls=1
        )

    return write


def department(number: int, *, gone: bool = False, **fields: Any) -> Write:
    """A department's own answer."""

    async def write(directory: AppDirectory) -> None:
        run = f"event{directory.read_at}"
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


def orders(writes: int) -> Sequence[tuple[int, ...]]:
    """Orders of so many writes; in a plain run some of very many."""
    every = list(permutations(range(writes)))
    return every[:: either(max(1, len(every) // 6), 1)]


@on_sqlite
async def test_the_order_of_writes_does_not_matter(database: Database) -> None:
    for case, writes in CASES.items():
        seen: list[Any] = []
        for order in orders(len(writes)):
            app = f"{case} {order}"
            for index in order:
                await writes[index](AppDirectory(database, app, read_at=100 + index))
            seen.append(await state(database, app))
        assert seen == seen[:1] * len(seen), case


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


ADDRESSES: dict[str, Any] = {
    "email": "old@x.cn",
    "mobile": "13911112222",
    "job_number": "J-1",
    "title": "Clerk",
}
KEYS = {"email": "old@x.cn", "mobile": "+86-13911112222", "job_number": "J-1"}


async def here(database: Database, app: str) -> dict[str, Any]:
    """The fields of people who are there, by userid; each has one row and is in department 2."""
    people = await all_of(database, UserRow, UserRow.app == app, UserRow.left_at.is_(None))
    found = {row["userid"]: row["fields"] for row in people}
    places = await all_of(database, MembershipRow, MembershipRow.app == app)
    assert {row["userid"] for row in places} <= found.keys()
    unionids = [fields["unionid"] for fields in found.values()]
    assert len(set(unionids)) == len(unionids), found
    return found


OLD = person("old", "A", **ADDRESSES)
OLD_A, NEW_A = Member("old", {"unionid": "A"}), Member("new", {"unionid": "A"})
EXCHANGED = [
    listed(2, Member("u1", {"unionid": "A", **ADDRESSES}), Member("u2", {"unionid": "B"})),
    listed(2, Member("u1", {"unionid": "B"}), Member("u2", {"unionid": "A"})),
]
IDENTITIES: dict[str, tuple[list[Write], dict[str, str]]] = {
    "a new userid": ([OLD, unknown("old"), person("new", "A")], {"new": "A"}),
    "a new one before the old one is gone": (
        [OLD, person("new", "A"), unknown("old")],
        {"new": "A"},
    ),
    "a new one and the old one again": (
        [person("old", "A"), person("new", "A"), person("old", "A")],
        {"old": "A"},
    ),
    "a new one in a list": ([listed(2, OLD_A), listed(2, NEW_A)], {"new": "A"}),
    "that of another person": ([OLD, unknown("old"), person("old", "B")], {"old": "B"}),
    "that of another person, whose leaving is not heard of": (
        [OLD, person("old", "B"), person("new", "A")],
        {"old": "B", "new": "A"},
    ),
    "two exchanged": (EXCHANGED, {"u1": "B", "u2": "A"}),
    "both in one list": ([listed(2, OLD_A, NEW_A)], {"new": "A"}),
}


async def test_a_person_has_one_row_in_any_order(database: Database) -> None:
    """On PostgreSQL, whose statements are the same, in the first one."""
    every = [
        (f"{number}: {order}", order, writes, expected)
        for number, (writes, expected) in enumerate(IDENTITIES.values())
        for order in orders(len(writes))[: None if database.is_sqlite else 1]
    ]
    for app, order, writes, expected in every:
        for index in order:
            await writes[index](AppDirectory(database, app, read_at=100 + index))
            await here(database, app)
        found = await here(database, app)
        assert {userid: fields["unionid"] for userid, fields in found.items()} == expected, app
        assert not any(name in fields for fields in found.values() for name in ADDRESSES)
        for kind, value in KEYS.items():
            assert await AppDirectory(database, app).find(kind, [value]) == {value: []}  # type: ignore[arg-type]


async def test_a_new_userid_takes_over_what_happened_to_the_old_one(database: Database) -> None:
    writes = [person("old", "A"), person("old", "A", title="Head"), person("new", "A")]
    counts: list[Progress] = []
    for index, write in enumerate(writes):
        counts.append(await write(AppDirectory(database, "default", read_at=100 + index)))
    last = counts[-1]
    assert (last.added, last.changed, last.left) == (1, 0, 0)
    rows = sorted(await all_of(database, ChangeRow), key=lambda row: row["number"])
    found = [(row["userid"], row["event"]) for row in rows]
    assert found == [("new", "added"), ("new", "changed"), ("new", "added")]


AMY = {"unionid": "A", "name": "Ann"}
BOB = Member("bob", {"unionid": "B", "name": "Bob"} | ADDRESSES)
LISTED, LATER = listed(2, Member("ann", AMY)), listed(3, BOB)
ANN_ANSWER, BOB_ANSWER = person("ann", "A"), person("bob", "B", **ADDRESSES)


READS: dict[str, tuple[list[Write], bool]] = {
    "one list": ([listed(2, Member("ann", AMY), BOB)], True),
    "a later list": ([LISTED, LATER], True),
    "kinds": ([LISTED, BOB_ANSWER], False),
    "answers": ([ANN_ANSWER, BOB_ANSWER], True),
    "hidden from the app": ([ANN_ANSWER, person("bob", "B")], False),
    "before": ([BOB_ANSWER, ANN_ANSWER], False),
    "left since": ([ANN_ANSWER, unknown("ann"), BOB_ANSWER], False),
}
"""Reads after the first list, and whether they clear the fields that an answer leaves out."""


async def test_a_field_that_an_answer_leaves_out_is_cleared_once_others_show_it(
    database: Database,
) -> None:
    own = {name: f"{value}0" for name, value in ADDRESSES.items()}
    for app, (reads, cleared) in READS.items():
        for index, write in enumerate([listed(2, Member("ann", AMY | own), BOB), *reads]):
            await write(AppDirectory(database, app, read_at=100 + index))
        (row,) = await all_of(database, UserRow, UserRow.app == app, UserRow.userid == "ann")
        known = [row["fields"][name] for name in ADDRESSES] + [row["email"], row["job_number"]]
        assert [bool(value) for value in known] == [not cleared] * 6, app
        # A read from before does not bring it back.
        await person("ann", "A", **own)(AppDirectory(database, app, read_at=99))
        assert not (cleared and (await here(database, app))["ann"]["email"]), app


async def test_an_incomplete_answer_is_verified_once(database: Database) -> None:
    people = [person("ann", "A", **ADDRESSES), person("bob", "B", email="bob@x.cn")]
    people += [person("cho", "C", mobile="13900000001", job_number="J-2", title="Head")]
    asked: list[Any] = []
    for index, write in enumerate([*people, person("ann", "A"), person("ann", "A")]):
        found = await write(AppDirectory(database, "default", read_at=100 + index))
        asked.append(found.witnesses)
    assert [sorted(each) for each in asked] == [[], [], [], ["bob", "cho"], []]
