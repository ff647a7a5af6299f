"""The members of departments, and their positions."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, exists, not_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.contract import batched
from dingrelay_tasks.organisation import Member
from dingrelay_workers.database.database import CHUNK, chunks, rows_among, upsert
from dingrelay_workers.directory.models import (
    Change,
    ChangeEvent,
    Changes,
    DepartmentRow,
    MembershipRow,
    RunDepartmentRow,
    UserRow,
)
from dingrelay_workers.directory.order import is_newer, is_not_newer
from dingrelay_workers.directory.runs import Run, gone_users

Key = tuple[int, str]
"""Department and userid."""

_IN_REMOVED = exists().where(
    DepartmentRow.app == MembershipRow.app,
    DepartmentRow.id == MembershipRow.department,
    DepartmentRow.left_at.is_not(None),
    DepartmentRow.read_at > MembershipRow.read_at,
)


Place = dict[str, Any]
"""A person in a department, by column; `leader` and `dept_order` are None where the answer has them not."""


def in_department(department: int, members: Sequence[Member]) -> list[Place]:
    """The places in a department's list of members."""
    return [
        _place(member, department, *map(member.fields.get, ("leader", "dept_order")))
        for member in members
    ]


def of_user(member: Member) -> list[Place] | None:
    """The places in a user's own answer; None: it has no such field."""
    fields = member.fields
    if fields.get("dept_id_list") is None:
        return None
    leader = {place["dept_id"]: place["leader"] for place in fields.get("leader_in_dept", ())}
    order = {place["dept_id"]: place["order"] for place in fields.get("dept_order_list", ())}
    return [
        _place(member, number, leader.get(number), order.get(number))
        for number in fields["dept_id_list"]
    ]


def _place(member: Member, department: int, leader: bool | None, order: int | None) -> Place:
    place: Place = {"department": department, "userid": member.userid}
    return place | {"leader": leader, "dept_order": order}


async def put_members(run: Run, department: int, places: Sequence[Place]) -> Changes:
    """Write people of the department; returns changes within it."""
    changes: Changes = {}
    for batch in batched(places, CHUNK):
        elsewhere = await _elsewhere(run, batch)
        people = MembershipRow.userid.in_([place["userid"] for place in batch])
        batch_rows = and_(MembershipRow.department == department, people)
        changes |= await _replace(run, batch_rows, batch, without=elsewhere)
    return changes


async def drop_others(run: Run, department: int, *, since: int) -> None:
    """Delete the memberships of a department that the run has not written from `since` on, except those read later."""
    written = and_(MembershipRow.met_in == run.number, MembershipRow.read_at >= since)
    older = is_not_newer(MembershipRow.read_at, replace(run, read_at=since))
    await run.delete(MembershipRow, MembershipRow.department == department, older, not_(written))


async def replace_user(run: Run, userid: str, places: Sequence[Place]) -> Changes:
    """The person is in these departments and in no other; whether they changed within one."""
    query = select(UserRow.placed_at, UserRow.left_at).where(UserRow.app == run.app)
    row = (await run.connection.execute(query.where(UserRow.userid == userid))).one()
    if row.left_at is not None or is_newer(row.placed_at, run):
        return {}
    await run.update(UserRow, UserRow.userid == userid, placed_at=run.read_at)
    return await _replace(run, MembershipRow.userid == userid, places, without=())


async def stranded(run: Run, most: int) -> Sequence[str]:
    """Members of departments that were found not to exist after this was read of them, in order.

    DingTalk puts them elsewhere, and need not tell of each. A walk of everything looks at all
    departments, another run at those that it has read or found to be gone.
    """
    query = (
        select(MembershipRow.userid)
        .distinct()
        .where(MembershipRow.app == run.app, _IN_REMOVED)
        .where(MembershipRow.userid.not_in(gone_users(run)))
        .order_by(MembershipRow.userid)
        .limit(most)
    )
    if run.scope != "everything":
        read = select(RunDepartmentRow.department).where(RunDepartmentRow.number == run.number)
        query = query.where(MembershipRow.department.in_(read))
    return list(await run.connection.scalars(query))


async def leave_removed(run: Run, userids: Collection[str]) -> None:
    """Delete these people's memberships in removed departments; the others stay."""
    for batch in chunks(userids):
        await run.delete(MembershipRow, MembershipRow.userid.in_(batch), _IN_REMOVED)


async def is_outdated(run: Run, member: Member) -> bool:
    """Whether a department that a person's answer names was found not to exist after it was read."""
    departments = [place["department"] for place in of_user(member) or ()]
    removed = DepartmentRow.app == run.app, DepartmentRow.left_at.is_not(None)
    query = select(DepartmentRow.read_at).where(*removed)
    rows = await rows_among(run.connection, query, DepartmentRow.id, departments)
    return any(is_newer(row.read_at, run) for row in rows)


async def leaders(connection: AsyncConnection, app: str, department: int) -> Sequence[str]:
    """The heads of a department, as far as they are known."""
    userids = await connection.scalars(
        select(MembershipRow.userid)
        .where(MembershipRow.app == app, MembershipRow.department == department)
        .where(MembershipRow.leader.is_(True))
    )
    return list(userids)


async def _elsewhere(run: Run, places: Sequence[Place]) -> Collection[Key]:
    """People who were found in other departments, or to have left, after the list was read."""
    departments = {place["userid"]: place["department"] for place in places}
    query = select(UserRow.userid, UserRow.placed_at, UserRow.left_at)
    query = query.where(UserRow.app == run.app)
    return {
        (departments[row.userid], row.userid)
        for row in await rows_among(run.connection, query, UserRow.userid, departments)
        if row.left_at is not None or is_newer(row.placed_at, run)
    }


async def _replace(
    run: Run,
    which: ColumnElement[bool],
    places: Sequence[Place],
    *,
    without: Collection[Key],
) -> Changes:
    """Write the given memberships and delete the others, except those read since.

    `without`: not to be added, since they were found gone after this was read.
    """
    query = select(MembershipRow.__table__).where(MembershipRow.app == run.app, which)
    answer = await run.connection.execute(query)
    rows_before = {(row["department"], row["userid"]): row for row in answer.mappings()}
    changes: Changes = {}
    rows: dict[Key, dict[str, Any]] = {}
    for place in places:
        key = place["department"], place["userid"]
        before = rows_before.get(key)
        if is_newer(before["read_at"], run) if before is not None else key in without:
            continue
        row = {**place, "app": run.app, "met_in": run.number, "read_at": run.read_at}
        if before is not None and (changed := _merge(row, before)):
            change = changes.setdefault(place["userid"], Change(ChangeEvent.CHANGED))
            change.fields |= changed
        rows[key] = row
    await upsert(run.connection, MembershipRow, list(rows.values()))
    written = {(place["department"], place["userid"]) for place in places}
    old = {key for key, row in rows_before.items() if not is_newer(row["read_at"], run)}
    person = tuple_(MembershipRow.department, MembershipRow.userid)
    for batch in chunks(old - written, CHUNK // 2):
        await run.delete(MembershipRow, which, person.in_(batch))
    return changes


def _merge(row: dict[str, Any], before: RowMapping) -> set[str]:
    """Keep in `row` what it does not tell; the fields that have another value than before."""
    changed: set[str] = set()
    for name in ("leader", "dept_order"):
        if row[name] is None:
            row[name] = before[name]
        elif before[name] is not None and row[name] != before[name]:
            changed.add(name)
    return changed
