"""Who is in which department, and as what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.context import Member
from dingrelay_workers.database.database import upsert
from dingrelay_workers.directory.models import Event, MembershipRow
from dingrelay_workers.directory.people import Change, Changes
from dingrelay_workers.directory.runs import Run

Key = tuple[int, str]
"""Department and userid."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A person in a department. None: not told."""

    department: int
    userid: str
    leader: bool | None = None
    dept_order: int | None = None


def in_department(department: int, members: Sequence[Member]) -> list[Membership]:
    """The memberships that a department's list of members tells."""
    return [
        Membership(
            department, member.userid, member.fields.get("leader"), member.fields.get("dept_order")
        )
        for member in members
    ]


def of_user(member: Member) -> list[Membership] | None:
    """The memberships that a user's own answer tells; None: it does not say."""
    departments = member.fields.get("dept_id_list")
    if departments is None:
        return None
    leader = {
        place["dept_id"]: place["leader"] for place in member.fields.get("leader_in_dept", ())
    }
    order = {place["dept_id"]: place["order"] for place in member.fields.get("dept_order_list", ())}
    return [
        Membership(number, member.userid, leader.get(number), order.get(number))
        for number in departments
    ]


async def replace_department(
    connection: AsyncConnection, run: Run, department: int, told: Sequence[Membership]
) -> Changes:
    """These people and nobody else are in the department; who changed within it."""
    return await _replace(connection, run, MembershipRow.department == department, told)


async def replace_user(
    connection: AsyncConnection, run: Run, userid: str, told: Sequence[Membership]
) -> Changes:
    """The person is in these departments and in no other; whether they changed within one."""
    return await _replace(connection, run, MembershipRow.userid == userid, told)


async def _replace(
    connection: AsyncConnection, run: Run, which: ColumnElement[bool], told: Sequence[Membership]
) -> Changes:
    found = await connection.execute(
        select(
            MembershipRow.department,
            MembershipRow.userid,
            MembershipRow.leader,
            MembershipRow.dept_order,
            MembershipRow.met_in,
        ).where(MembershipRow.app == run.app, which)
    )
    known = {(row["department"], row["userid"]): row for row in found.mappings()}
    changes: Changes = {}
    rows: dict[Key, dict[str, Any]] = {}
    for membership in told:
        key = membership.department, membership.userid
        before = known.get(key)
        row: dict[str, Any] = {
            "app": run.app,
            "department": membership.department,
            "userid": membership.userid,
            "leader": membership.leader,
            "dept_order": membership.dept_order,
            "met_in": run.number,
        }
        if before is not None and (changed := _merge(row, before)):
            change = changes.setdefault(membership.userid, Change(Event.CHANGED))
            change.fields |= changed
        rows[key] = row
    await upsert(connection, MembershipRow, list(rows.values()))
    await _delete(
        connection,
        run.app,
        [key for key, row in known.items() if key not in rows and row["met_in"] <= run.number],
    )
    return changes


def _merge(row: dict[str, Any], before: RowMapping) -> set[str]:
    """Keep in `row` what it does not tell; the fields that have another value than before."""
    row["met_in"] = max(row["met_in"], before["met_in"])
    changed: set[str] = set()
    for name in ("leader", "dept_order"):
        if row[name] is None:
            row[name] = before[name]
        elif before[name] is not None and row[name] != before[name]:
            changed.add(name)
    return changed


async def _delete(connection: AsyncConnection, app: str, keys: Sequence[Key]) -> None:
    if not keys:
        return
    statement = delete(MembershipRow).where(
        MembershipRow.app == app,
        MembershipRow.department == bindparam("gone_department"),
        MembershipRow.userid == bindparam("gone_userid"),
    )
    await connection.execute(
        statement,
        [{"gone_department": department, "gone_userid": userid} for department, userid in keys],
    )
