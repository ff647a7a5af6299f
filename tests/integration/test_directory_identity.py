"""A person is who has a unionid: userids change hands, and answers leave out what was cleared."""

from collections.abc import Callable, Coroutine
from itertools import permutations
from typing import Any

import pytest

from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import ChangeRow, MembershipRow, UserRow
from dingrelay_workers.directory.store import AppDirectory
from rows import all_of

Write = Callable[[AppDirectory], Coroutine[Any, Any, Any]]

ADDRESSES: dict[str, Any] = {
    "email": "old@x.cn",
    "mobile": "13911112222",
    "job_number": "J-1",
    "title": "Clerk",
}
KEYS = {"email": "old@x.cn", "mobile": "+86-13911112222", "job_number": "J-1"}


def answered(userid: str, unionid: str, **fields: Any) -> Write:
    """A user's own answer."""
    fields = {"name": userid, "unionid": unionid, "dept_id_list": [2], **fields}
    return lambda found: found.put_user(
        f"{userid}{found._read_at}", Member(userid, fields), calls=1
    )


def unknown(userid: str) -> Write:
    """DingTalk does not know the user."""
    return lambda found: found.drop_user(f"drop-{userid}{found._read_at}", userid, calls=1)


def listed(*members: tuple[str, dict[str, Any]], department: int = 2) -> Write:
    """A list of a department's members."""

    async def write(found: AppDirectory) -> None:
        run = f"walk{found._read_at}"
        await found.open_run(run, scope="department", roots=[], calls=0)
        people = [Member(userid, fields) for userid, fields in members]
        await found.fill(run, Department(department, {}), children=[], members=people, calls=1)

    return write


async def here(database: Database, app: str) -> dict[str, Any]:
    """The fields of people who are there, by userid; each has one row and is in department 2."""
    people = await all_of(database, UserRow, UserRow.app == app, UserRow.left_at.is_(None))
    found = {row["userid"]: row["fields"] for row in people}
    places = await all_of(database, MembershipRow, MembershipRow.app == app)
    assert {row["userid"] for row in places} <= found.keys()
    unionids = [fields["unionid"] for fields in found.values()]
    assert len(set(unionids)) == len(unionids), found
    return found


CASES: dict[str, tuple[list[Write], dict[str, str]]] = {
    "a new userid": (
        [answered("old", "A", **ADDRESSES), unknown("old"), answered("new", "A")],
        {"new": "A"},
    ),
    "a new userid before the old one is gone": (
        [answered("old", "A", **ADDRESSES), answered("new", "A"), unknown("old")],
        {"new": "A"},
    ),
    "a new userid and the old one again": (
        [answered("old", "A"), answered("new", "A"), answered("old", "A")],
        {"old": "A"},
    ),
    "a new userid in a list": (
        [listed(("old", {"unionid": "A"})), listed(("new", {"unionid": "A"}))],
        {"new": "A"},
    ),
    "a userid of another person": (
        [answered("old", "A", **ADDRESSES), unknown("old"), answered("old", "B")],
        {"old": "B"},
    ),
    "a userid of another person, whose leaving is not heard of": (
        [answered("old", "A", **ADDRESSES), answered("old", "B"), answered("new", "A")],
        {"old": "B", "new": "A"},
    ),
    "two userids exchanged": (
        [
            listed(("u1", {"unionid": "A", **ADDRESSES}), ("u2", {"unionid": "B"})),
            listed(("u1", {"unionid": "B"}), ("u2", {"unionid": "A"})),
        ],
        {"u1": "B", "u2": "A"},
    ),
    "both userids in one list": (
        [listed(("old", {"unionid": "A"}), ("new", {"unionid": "A"}))],
        {"new": "A"},
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_person_has_one_row_in_any_order(database: Database, case: str) -> None:
    writes, expected = CASES[case]
    for order in permutations(range(len(writes))):
        app = "-".join(map(str, order))
        for index in order:
            await writes[index](AppDirectory(database, app, read_at=100 + index))
            await here(database, app)
        found = await here(database, app)
        assert {userid: fields["unionid"] for userid, fields in found.items()} == expected, order
        assert not any(name in fields for fields in found.values() for name in ADDRESSES)
        for kind, value in KEYS.items():
            assert await AppDirectory(database, app).find(kind, [value]) == {value: []}  # type: ignore[arg-type]


async def test_a_new_userid_takes_over_what_happened_to_the_old_one(database: Database) -> None:
    writes = [answered("old", "A"), answered("old", "A", title="Head"), answered("new", "A")]
    counts: list[Progress] = []
    for index, write in enumerate(writes):
        counts.append(await write(AppDirectory(database, "default", read_at=100 + index)))
    last = counts[-1]
    assert (last.added, last.changed, last.left) == (1, 0, 0)
    rows = sorted(await all_of(database, ChangeRow), key=lambda row: row["number"])
    found = [(row["userid"], row["event"]) for row in rows]
    assert found == [("new", "added"), ("new", "changed"), ("new", "added")]


ANN = {"unionid": "A", "name": "Ann"}
BOB = {"unionid": "B", "name": "Bob"}


@pytest.mark.parametrize(
    ("reads", "cleared"),
    [
        pytest.param([listed(("ann", ANN), ("bob", BOB | ADDRESSES))], True, id="one list"),
        pytest.param(
            [listed(("ann", ANN)), listed(("bob", BOB | ADDRESSES), department=3)],
            True,
            id="a later list",
        ),
        pytest.param([listed(("ann", ANN)), answered("bob", "B", **ADDRESSES)], False, id="kinds"),
        pytest.param([answered("ann", "A"), answered("bob", "B", **ADDRESSES)], True, id="answers"),
        pytest.param([answered("ann", "A"), answered("bob", "B")], False, id="hidden from the app"),
        pytest.param([answered("bob", "B", **ADDRESSES), answered("ann", "A")], False, id="before"),
        pytest.param(
            [answered("ann", "A"), unknown("ann"), answered("bob", "B", **ADDRESSES)],
            False,
            id="left since",
        ),
    ],
)
async def test_a_field_that_an_answer_leaves_out_is_cleared_once_others_show_it(
    database: Database, reads: list[Write], cleared: bool
) -> None:
    own = {name: f"{value}0" for name, value in ADDRESSES.items()}
    writes = [listed(("ann", ANN | own), ("bob", BOB | ADDRESSES)), *reads]
    for index, write in enumerate(writes):
        await write(AppDirectory(database, "default", read_at=100 + index))
    (row,) = await all_of(database, UserRow, UserRow.userid == "ann")
    known = [row["fields"][name] for name in ADDRESSES] + [row["email"], row["job_number"]]
    assert [bool(value) for value in known] == [not cleared] * 6
    # A read from before does not bring it back.
    await answered("ann", "A", **own)(AppDirectory(database, "default", read_at=99))
    assert not (cleared and (await here(database, "default"))["ann"]["email"])


async def test_an_incomplete_answer_is_verified_once(database: Database) -> None:
    people = [answered("ann", "A", **ADDRESSES), answered("bob", "B", email="bob@x.cn")]
    people += [answered("cho", "C", mobile="13900000001", job_number="J-2", title="Head")]
    asked: list[Any] = []
    for index, write in enumerate([*people, answered("ann", "A"), answered("ann", "A")]):
        found = await write(AppDirectory(database, "default", read_at=100 + index))
        asked.append(found.witnesses)
    assert [sorted(each) for each in asked] == [[], [], [], ["bob", "cho"], []]
