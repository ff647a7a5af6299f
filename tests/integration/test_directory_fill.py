"""Runs fill the directory, find what changed and who left, and are forgotten in time."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_tasks.outcomes import Refused
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import runs
from dingrelay_workers.directory.models import (
    ChangeRow,
    MembershipRow,
    RunDepartmentRow,
    RunRow,
    UserRow,
)
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.store.wakeup import LONGEST_ID
from support import processes
from support.directories import all_users, read, users_below
from support.rows import all_of, change, count

LONG_AGO = datetime.now(UTC) - runs.KEPT - timedelta(minutes=1)


def person(userid: str, **fields: Any) -> Member:
    return Member(userid, {"name": userid.title(), **fields})


async def walk(
    directory: AppDirectory, run: str, people: dict[int, list[Member]], tree: dict[int, list[int]]
) -> None:
    """Fill every department of a small organisation, the root first."""
    await directory.open_run(run, scope="everything", roots=[Department(1, {})], calls=1)
    ahead = [1]
    while ahead:
        number = ahead.pop()
        children = [Department(child, {"name": f"D{child}"}) for child in tree.get(number, [])]
        found = {"children": children, "members": people.get(number, [])}
        ahead += await directory.fill(run, Department(number, {}), **found, calls=2)


async def changes(database: Database) -> list[tuple[str, str, list[str]]]:
    rows = await all_of(database, ChangeRow)
    rows.sort(key=lambda row: (row["number"], row["userid"]))
    return [(row["userid"], row["event"], row["fields"]) for row in rows]


TREE = {1: [2, 3], 2: [4]}
PEOPLE = {
    1: [person("boss")],
    2: [person("ann"), person("bob")],
    3: [person("ann"), person("cho")],
    4: [person("dee")],
}


async def test_a_walk_counts_each_person_once_and_finds_them_below(directory: AppDirectory) -> None:
    await walk(directory, "r1", PEOPLE, TREE)
    progress = await directory.close_run("r1", confirm_removals=False)
    assert (progress.departments, progress.users, progress.added) == (4, 5, 5)
    assert (progress.changed, progress.left, progress.calls) == (0, 0, 9)
    assert await all_users(directory) == ["ann", "bob", "boss", "cho", "dee"]
    assert await users_below(directory, 2) == ["ann", "bob", "dee"]
    assert len(await users_below(directory, 1)) == 5
    assert await users_below(directory, 99) == []


async def test_apps_do_not_see_each_other(database: Database) -> None:
    await walk(AppDirectory(database, "default"), "r1", PEOPLE, TREE)
    await walk(AppDirectory(database, "other"), "r1", {1: [person("eve")]}, {})
    assert await all_users(AppDirectory(database, "other")) == ["eve"]
    assert (await AppDirectory(database, "other").close_run("r1", confirm_removals=False)).left == 0
    assert len(await all_users(AppDirectory(database, "default"))) == 5


async def test_a_second_walk_without_news_changes_nothing(directory: AppDirectory) -> None:
    await walk(directory, "r1", PEOPLE, TREE)
    await directory.close_run("r1", confirm_removals=False)
    await walk(directory, "r2", PEOPLE, TREE)
    progress = await directory.close_run("r2", confirm_removals=False)
    assert (progress.users, progress.added, progress.changed, progress.left) == (5, 0, 0, 0)


async def test_filling_a_department_again_changes_nothing(directory: AppDirectory) -> None:
    await directory.open_run("r", scope="everything", roots=[Department(1, {})], calls=1)
    await directory.open_run("r", scope="everything", roots=[Department(1, {})], calls=1)
    children = [Department(3, {}), Department(2, {})]
    first = await directory.fill(
        "r", Department(1, {}), children=children, members=PEOPLE[1], calls=2
    )
    again = await directory.fill("r", Department(1, {}), children=[], members=[], calls=2)
    assert first == again == [2, 3]
    assert await directory.pending("r") == 2
    progress = await directory.progress("r")
    assert (progress.users, progress.added, progress.calls) == (1, 1, 3)


async def test_changes_name_the_fields(directory: AppDirectory, database: Database) -> None:
    before = person("ann", title="Clerk", mobile="1", admin=False, dept_id_list=[2, 3])
    await walk(directory, "r1", {1: [before, person("bob", title="Clerk")]}, {})
    after = person("ann", title="Head", admin=True, dept_id_list=[3, 2])
    await walk(directory, "r2", {1: [after, person("bob", email="b@x", remark="")]}, {})
    assert (await changes(database))[2:] == [
        ("ann", "changed", ["admin", "title"]),
        ("bob", "changed", ["email", "title"]),
    ]
    # What the second answer left out is still known if it shows it of no other person.
    fields = {row["userid"]: row["fields"] for row in await all_of(database, UserRow)}
    assert (fields["ann"]["mobile"], fields["bob"]["title"]) == ("1", "")


async def test_runs_that_are_too_old_go_with_what_they_found(database: Database) -> None:
    for app in ("default", "hr"):
        await walk(AppDirectory(database, app), "old", PEOPLE, TREE)
        await AppDirectory(database, app).close_run("old", confirm_removals=False)
    await change(database, RunRow, opened_at=LONG_AGO)

    directory = AppDirectory(database, "default")
    assert (await directory.put_user("new", person("eve"), calls=1)).added == 1

    left = [(row["app"], row["run"]) for row in await all_of(database, RunRow)]
    assert sorted(left) == [("default", "new"), ("hr", "old")]
    assert await count(database, RunDepartmentRow) == len(TREE[1]) + len(TREE[2]) + 1
    assert [found[0] for found in await changes(database)].count("ann") == 1
    # The directory itself is as it was.
    assert await all_users(directory) == ["ann", "bob", "boss", "cho", "dee", "eve"]
    await walk(directory, "next", PEOPLE | {1: [person("boss"), person("eve")]}, TREE)
    assert (await directory.close_run("next", confirm_removals=False)).left == 0


async def test_old_changes_are_deleted_in_portions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "FORGOTTEN_CHANGES", 2)
    directory = AppDirectory(database, "default")
    await walk(directory, "old", PEOPLE, TREE)
    await directory.close_run("old", confirm_removals=False)
    await change(database, RunRow, opened_at=LONG_AGO)
    left = []
    for number in range(3):
        await directory.put_user(f"new{number}", person(f"x{number}"), calls=1)
        left.append(sum(not found[0].startswith("x") for found in await changes(database)))
    assert left == [3, 1, 0]


async def test_fields_of_one_department_are_no_change_in_another(
    directory: AppDirectory, database: Database
) -> None:
    people = {
        2: [person("ann", leader=True, dept_order=1)],
        3: [person("ann", leader=False, dept_order=7)],
    }
    await walk(directory, "r1", people, TREE)
    await walk(directory, "r2", people, TREE)
    assert await changes(database) == [("ann", "added", [])]
    people[3] = [person("ann", leader=True, dept_order=7)]
    await walk(directory, "r3", people, TREE)
    assert (await changes(database))[1:] == [("ann", "changed", ["leader"])]


async def test_a_move_takes_the_person_out_of_the_old_department(
    directory: AppDirectory, database: Database
) -> None:
    await walk(directory, "r1", {2: [person("ann", dept_id_list=[2])]}, TREE)
    await walk(directory, "r2", {3: [person("ann", dept_id_list=[3])]}, TREE)
    assert await users_below(directory, 2) == []
    assert await users_below(directory, 3) == ["ann"]
    assert (await changes(database))[1:] == [("ann", "changed", ["dept_id_list"])]


async def test_departments_move_with_their_people(directory: AppDirectory) -> None:
    await walk(directory, "r1", PEOPLE, {1: [2, 3], 2: [4]})
    await walk(directory, "r2", PEOPLE, {1: [2, 3], 3: [4]})
    assert await users_below(directory, 2) == ["ann", "bob"]
    assert await users_below(directory, 3) == ["ann", "cho", "dee"]
    await directory.open_run("r3", scope="department", roots=[Department(3, {})], calls=1)
    above = [Department(1, {})]
    await directory.fill("r3", Department(4, {}), children=above, members=[], calls=1)
    assert await users_below(directory, 4) == ["ann", "bob", "boss", "cho"]


async def test_departments_of_the_same_people_add_them_once(
    directory: AppDirectory, database: Database
) -> None:
    people = crowd(150)
    numbers = list(range(2, 22))
    await read(directory, {1: []}, {1: numbers}, run="r")
    await asyncio.gather(
        *(
            directory.fill("r", Department(number, {}), children=[], members=members, calls=3)
            for number in numbers
            for members in (people, list(reversed(people)))
        )
    )
    progress = await directory.close_run("r", confirm_removals=False)
    assert (progress.users, progress.added, progress.changed) == (150, 150, 0)
    assert progress.calls == 1 + 2 + 3 * len(numbers)
    assert await count(database, MembershipRow) == 150 * len(numbers)


PROCESS = """
import asyncio, sys
from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_tasks.outcomes import Refused
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import AppDirectory

async def main():
    database = Database(sys.argv[1])
    crowd = [Member(f"u{number}", {"name": "x"}) for number in range(50)]
    await asyncio.gather(*(
        AppDirectory(database, "default").fill("r", Department(number, {}), children=[], members=crowd, calls=2)
        for number in range(2, 22)
    ))
    await database.dispose()

asyncio.run(main())
"""


async def test_processes_write_at_once(directory: AppDirectory, database_url: str) -> None:
    await read(directory, {1: []}, {1: range(2, 22)}, run="r")
    workers = [
        processes.Popen([sys.executable, "-c", PROCESS, database_url], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    errors = [(await asyncio.to_thread(worker.communicate))[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 3, errors
    progress = await directory.progress("r")
    assert (progress.pending, progress.departments) == (0, 21)
    assert (progress.users, progress.added, progress.changed) == (50, 50, 0)
    assert progress.calls == 3 + 20 * 2


async def test_a_run_may_have_the_longest_id_of_a_job(directory: AppDirectory) -> None:
    run = "x" * LONGEST_ID
    await walk(directory, run, {1: [person("ann")]}, {})
    assert (await directory.progress(run)).added == 1


async def test_pages_hold_everyone_once_and_in_order(directory: AppDirectory) -> None:
    people = [person(f"u{number:04}") for number in range(2_001)]
    await walk(directory, "r", {2: people[:1_500], 3: people[1_000:]}, TREE)
    everyone = [member.userid for member in people]
    assert await users_below(directory, 1) == everyone
    assert await all_users(directory) == everyone
    assert [len(page) async for page in directory.everyone()] == [1_000, 1_000, 1]


def crowd(many: int) -> list[Member]:
    return [Member(f"u{number:03}", {"name": "x"}) for number in range(many)]


async def close(directory: AppDirectory, run: str, *, confirm: bool) -> Progress:
    """Close a run; DingTalk knows nothing of what the run did not meet."""
    while True:
        users, departments = await directory.unmet(run, most=50, confirm_removals=confirm)
        if users:
            await directory.note_users(run, met=[], hidden=[], gone=users)
        elif departments:
            await directory.note_departments(run, met=[], hidden=[], gone=departments)
        else:
            return await directory.close_run(run, confirm_removals=confirm)


async def walk_of(
    directory: AppDirectory, run: str, members: list[Member], *, confirm: bool = False
) -> int:
    await read(directory, {1: members}, run=run)
    return (await close(directory, run, confirm=confirm)).left


async def test_people_missing_in_a_walk_leave_and_may_come_back(
    directory: AppDirectory, database: Database
) -> None:
    await walk_of(directory, "r1", crowd(20))
    assert await walk_of(directory, "r2", crowd(19)) == 1
    assert len(await all_users(directory)) == len(await users_below(directory, 1)) == 19
    assert await walk_of(directory, "r3", crowd(20)) == 0
    assert len(await all_users(directory)) == len(await users_below(directory, 1)) == 20
    found = [(userid, event) for userid, event, _ in (await changes(database))[20:]]
    assert found == [("u019", "left"), ("u019", "added")]


async def test_closing_again_answers_the_same(directory: AppDirectory) -> None:
    await walk_of(directory, "r1", crowd(20))
    await read(directory, {1: crowd(18)}, run="r2")
    first = await close(directory, "r2", confirm=False)
    assert first == await close(directory, "r2", confirm=False)
    assert (first.users, first.left) == (18, 2)


async def test_more_than_the_share_needs_a_confirmation(directory: AppDirectory) -> None:
    await walk_of(directory, "r1", crowd(20))
    await read(directory, {1: crowd(17)}, run="r2")
    with pytest.raises(Refused) as refused:
        await close(directory, "r2", confirm=False)
    assert refused.value.code == "removal_share"
    assert "confirm_removals" in refused.value.hint
    assert len(await all_users(directory)) == 20
    assert (await close(directory, "r2", confirm=True)).left == 3


async def test_the_share_is_of_those_who_were_there_before(directory: AppDirectory) -> None:
    await walk_of(directory, "r1", crowd(10))
    others = [Member(f"new{number}", {}) for number in range(100)]
    await read(directory, {1: others}, run="r2")
    with pytest.raises(Refused, match="10 of 10"):
        await close(directory, "r2", confirm=False)


async def test_a_failed_department_keeps_everyone(directory: AppDirectory) -> None:
    await walk_of(directory, "r1", crowd(20))
    await read(directory, {1: crowd(19), 2: []}, {1: (2, 3)}, run="r2")
    with pytest.raises(Refused, match="1 pending, 0 failed"):
        await close(directory, "r2", confirm=True)
    await directory.fail("r2", 3)
    with pytest.raises(Refused, match="0 pending, 1 failed"):
        await close(directory, "r2", confirm=True)
    progress = await directory.progress("r2")
    assert (progress.failed, progress.pending, progress.departments) == ([3], 0, 2)
    assert len(await all_users(directory)) == 20
    # Its job was enqueued again and succeeded.
    await directory.fill("r2", Department(3, {}), children=[], members=[], calls=2)
    assert (await close(directory, "r2", confirm=False)).left == 1


async def test_departments_below_a_failed_one_do_not_stay_pending(directory: AppDirectory) -> None:
    await read(directory, {1: []}, {1: (2,)})
    await directory.fail("walk", 1)
    assert (await directory.progress("walk")).failed == [2]


async def test_a_vanished_department_is_empty_and_gone(database: Database) -> None:
    for run, gone in (("r1", False), ("r2", True)):
        directory = AppDirectory(database, "default", read_at=1_000 + gone)
        there = {} if gone else {2: [Member("only-there", {})]}
        await read(directory, {1: crowd(20), **there}, {1: (2,)}, run=run)
        if gone:
            await directory.vanish(run, 2, calls=1)
        progress = await close(directory, run, confirm=False)
    assert (progress.left, progress.departments, progress.calls) == (1, 1, 5)
    assert len(await users_below(directory, 2)) == 0


@pytest.mark.parametrize("scope", ["everything", "department", "event"])
async def test_people_of_a_removed_department_are_read(database: Database, scope: str) -> None:
    early, late = (AppDirectory(database, "default", read_at=at) for at in (100, 200))
    two = [Member(userid, {}) for userid in ("ann", "bob", "eve")]
    people = {1: crowd(20), 2: two, 3: [Member("dan", {})]}
    await read(early, people, {1: (2, 3)}, run="r1")
    # The walk's job is run again, after its department was deleted.
    await early.vanish("r1", 2, calls=1)
    assert (await early.unmet("r1", most=50, confirm_removals=True))[0] == []
    await late.open_run("r2", scope=scope, roots=[], calls=1)
    await late.vanish("r2", 2, calls=1)
    users, _ = await late.unmet("r2", most=2, confirm_removals=True)
    assert users == ["ann", "bob"]
    ann = Member("ann", {"dept_id_list": [1]})
    await late.note_users("r2", met=[ann], hidden=["bob"], gone=["eve"])
    if scope != "everything":
        assert (await late.unmet("r2", most=50, confirm_removals=True))[0] == []
    await late.close_run("r2", confirm_removals=True)
    assert await users_below(late, 1) == ["ann", "dan", *(f"u{number:03}" for number in range(20))]
    assert "bob" in await all_users(late)
    assert "eve" not in await all_users(late)


async def test_people_named_without_departments_are_asked_for_once(database: Database) -> None:
    early, late = (AppDirectory(database, "default", read_at=at) for at in (100, 200))
    await read(early, {1: crowd(20), 2: [Member("ann", {})]}, {1: (2,)}, run="r1")
    await read(late, {1: crowd(20)}, {1: (2,)}, run="r2")
    await late.vanish("r2", 2, calls=1)
    assert (await late.unmet("r2", most=50, confirm_removals=False))[0] == ["ann"]
    await late.note_users("r2", met=[Member("ann", {"name": "Ann"})], hidden=[], gone=[])
    assert (await late.unmet("r2", most=50, confirm_removals=False))[0] == []
    assert (await late.close_run("r2", confirm_removals=False)).left == 0
    assert "ann" in await all_users(late)


async def test_an_answer_older_than_the_removal_is_ignored(database: Database) -> None:
    early, late = (AppDirectory(database, "default", read_at=at) for at in (100, 200))
    await late.open_run("r", scope="event", roots=[], calls=1)
    await late.vanish("r", 2, calls=1)
    ann = Member("ann", {"dept_id_list": [1, 2]})
    assert (await early.put_user("e1", ann, calls=1)).outdated
    # What DingTalk still says then is taken, though it contradicts itself.
    later = AppDirectory(database, "default", read_at=201)
    assert not (await later.put_user("e1", ann, calls=1)).outdated


async def test_a_department_that_no_walk_meets_is_gone(directory: AppDirectory) -> None:
    await read(directory, {1: crowd(20), 2: crowd(20)}, {1: (2,)}, run="r1")
    await walk_of(directory, "r2", crowd(20))
    assert len(await users_below(directory, 2)) == 0
    assert len(await users_below(directory, 1)) == 20


async def test_the_walk_of_a_department_marks_nobody(directory: AppDirectory) -> None:
    await walk_of(directory, "r1", crowd(20))
    await read(directory, {1: crowd(10)}, run="r2", scope="department")
    assert (await close(directory, "r2", confirm=True)).left == 0
    assert len(await all_users(directory)) == 20
    assert len(await users_below(directory, 1)) == 10


async def test_a_person_met_by_another_run_stays(database: Database) -> None:
    directory = AppDirectory(database, "default", read_at=1)
    await walk_of(directory, "r1", crowd(20))
    await directory.open_run("slow", scope="everything", roots=[Department(1, {})], calls=1)
    # An event names two people while the walk is under way.
    new = Member("new", {"dept_id_list": [1, 9]})
    await AppDirectory(database, "default", read_at=2).put_user("e1", new, calls=1)
    again = Member("u019", {"dept_id_list": [1]})
    await AppDirectory(database, "default", read_at=3).put_user("e2", again, calls=1)
    await directory.fill("slow", Department(1, {}), children=[], members=crowd(19), calls=2)
    assert (await close(directory, "slow", confirm=True)).left == 0
    assert len(await users_below(directory, 1)) == 21
    assert len(await users_below(directory, 9)) == 1


async def test_one_user_is_a_run_of_its_own(directory: AppDirectory) -> None:
    fields: dict[str, Any] = {"name": "Ann", "dept_id_list": [5, 6], "role_list": [{"id": 1}]}
    fields["leader_in_dept"] = [{"dept_id": 5, "leader": True}]
    first = await directory.put_user("r1", Member("ann", fields), calls=1)
    assert first == await directory.put_user("r1", Member("ann", fields), calls=1)
    assert (first.users, first.added, first.changed, first.calls) == (1, 1, 0, 1)
    fields |= {"name": "Anne", "dept_id_list": [6]}
    second = await directory.put_user("r2", Member("ann", fields), calls=1)
    assert (second.added, second.changed, second.left) == (0, 1, 0)
    assert len(await users_below(directory, 5)) == 0
    assert len(await users_below(directory, 6)) == 1
    third = await directory.drop_user("r3", "ann", calls=1)
    assert third == await directory.drop_user("r3", "ann", calls=1)
    assert (third.users, third.left) == (0, 1)
    assert (await directory.drop_user("r4", "stranger", calls=1)).left == 0
    assert await all_users(directory) == []


async def test_details_that_become_known_are_no_change(directory: AppDirectory) -> None:
    await walk_of(directory, "r1", [Member("ann", {"name": "Ann"})])
    full = Member("ann", {"name": "Ann", "senior": True, "manager_userid": "boss"})
    assert (await directory.put_user("r2", full, calls=1)).changed == 0
    moved = Member("ann", {"manager_userid": "other"})
    assert (await directory.put_user("r3", moved, calls=1)).changed == 1


async def test_an_unknown_run_is_refused(directory: AppDirectory) -> None:
    with pytest.raises(Refused) as refused:
        await directory.progress("never")
    assert refused.value.code == "no_such_run"
