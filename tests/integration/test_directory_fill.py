import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import processes
from dingrelay_tasks.organisation import Department, Member
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
from listings import all_users, users_below
from organisations import read
from rows import all_of, change, count

LONG_AGO = datetime.now(UTC) - runs.KEPT - timedelta(minutes=1)


def person(userid: str, **fields: Any) -> Member:
    return Member(userid, {"name": userid.title(), **fields})


async def walk(
    directory: AppDirectory, run: str, people: dict[int, list[Member]], tree: dict[int, list[int]]
) -> None:
    """Fill every department of a small organisation, the root first."""
    await directory.open_run(
        run, scope="everything", roots=[Department(1, {"name": "Org"})], calls=1
    )
    ahead = [1]
    while ahead:
        number = ahead.pop()
        children = [Department(child, {"name": f"D{child}"}) for child in tree.get(number, [])]
        ahead += await directory.fill(
            run,
            Department(number, {}),
            children=children,
            members=people.get(number, []),
            calls=2,
        )


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


async def test_of_many_old_changes_some_go_at_once(
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
    crowd = [person(f"u{number:03}") for number in range(150)]
    numbers = list(range(2, 22))
    await read(directory, {1: []}, {1: numbers}, run="r")
    await asyncio.gather(
        *(
            directory.fill("r", Department(number, {}), children=[], members=members, calls=3)
            for number in numbers
            for members in (crowd, list(reversed(crowd)))
        )
    )
    progress = await directory.close_run("r", confirm_removals=False)
    assert (progress.users, progress.added, progress.changed) == (150, 150, 0)
    assert progress.calls == 1 + 2 + 3 * len(numbers)
    assert await count(database, MembershipRow) == 150 * len(numbers)


PROCESS = """
import asyncio, sys
from dingrelay_tasks.organisation import Department, Member
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
    crowd = [person(f"u{number:04}") for number in range(2_001)]
    await walk(directory, "r", {2: crowd[:1_500], 3: crowd[1_000:]}, TREE)
    everyone = [member.userid for member in crowd]
    assert await users_below(directory, 1) == everyone
    assert await all_users(directory) == everyone
    assert [len(page) async for page in directory.everyone()] == [1_000, 1_000, 1]
