from typing import Any

import pytest

from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_tasks.outcomes import Refused
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import ChangeRow
from dingrelay_workers.directory.store import AppDirectory
from listings import all_users, users_below
from organisations import read
from rows import all_of


def crowd(count: int) -> list[Member]:
    return [Member(f"u{number:03}", {"name": "x"}) for number in range(count)]


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


async def walk(
    directory: AppDirectory, run: str, members: list[Member], *, confirm: bool = False
) -> int:
    await read(directory, {1: members}, run=run)
    return (await close(directory, run, confirm=confirm)).left


async def events(database: Database) -> list[tuple[str, str]]:
    rows = await all_of(database, ChangeRow)
    rows.sort(key=lambda row: (row["number"], row["userid"]))
    return [(row["userid"], row["event"]) for row in rows]


async def test_people_missing_in_a_walk_leave_and_may_come_back(
    directory: AppDirectory, database: Database
) -> None:
    await walk(directory, "r1", crowd(20))
    assert await walk(directory, "r2", crowd(19)) == 1
    assert len(await all_users(directory)) == len(await users_below(directory, 1)) == 19
    assert await walk(directory, "r3", crowd(20)) == 0
    assert len(await all_users(directory)) == len(await users_below(directory, 1)) == 20
    assert (await events(database))[20:] == [("u019", "left"), ("u019", "added")]


async def test_closing_again_answers_the_same(directory: AppDirectory) -> None:
    await walk(directory, "r1", crowd(20))
    await read(directory, {1: crowd(18)}, run="r2")
    first = await close(directory, "r2", confirm=False)
    assert first == await close(directory, "r2", confirm=False)
    assert (first.users, first.left) == (18, 2)


async def test_more_than_the_share_needs_a_confirmation(directory: AppDirectory) -> None:
    await walk(directory, "r1", crowd(20))
    await read(directory, {1: crowd(17)}, run="r2")
    with pytest.raises(Refused) as refused:
        await close(directory, "r2", confirm=False)
    assert refused.value.code == "removal_share"
    assert "confirm_removals" in refused.value.hint
    assert len(await all_users(directory)) == 20
    assert (await close(directory, "r2", confirm=True)).left == 3


async def test_the_share_is_of_those_who_were_there_before(directory: AppDirectory) -> None:
    await walk(directory, "r1", crowd(10))
    others = [Member(f"new{number}", {}) for number in range(100)]
    await read(directory, {1: others}, run="r2")
    with pytest.raises(Refused, match="10 of 10"):
        await close(directory, "r2", confirm=False)


async def test_a_failed_department_keeps_everyone(directory: AppDirectory) -> None:
    await walk(directory, "r1", crowd(20))
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
    await walk(directory, "r2", crowd(20))
    assert len(await users_below(directory, 2)) == 0
    assert len(await users_below(directory, 1)) == 20


async def test_the_walk_of_a_department_marks_nobody(directory: AppDirectory) -> None:
    await walk(directory, "r1", crowd(20))
    await read(directory, {1: crowd(10)}, run="r2", scope="department")
    assert (await close(directory, "r2", confirm=True)).left == 0
    assert len(await all_users(directory)) == 20
    assert len(await users_below(directory, 1)) == 10


async def test_a_person_met_by_another_run_stays(database: Database) -> None:
    directory = AppDirectory(database, "default", read_at=1)
    await walk(directory, "r1", crowd(20))
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
    await walk(directory, "r1", [Member("ann", {"name": "Ann"})])
    full = Member("ann", {"name": "Ann", "senior": True, "manager_userid": "boss"})
    assert (await directory.put_user("r2", full, calls=1)).changed == 0
    moved = Member("ann", {"manager_userid": "other"})
    assert (await directory.put_user("r3", moved, calls=1)).changed == 1


async def test_an_unknown_run_is_refused(directory: AppDirectory) -> None:
    with pytest.raises(Refused) as refused:
        await directory.progress("never")
    assert refused.value.code == "no_such_run"
