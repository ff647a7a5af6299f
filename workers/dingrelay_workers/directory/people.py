"""People, and the events that tell how they changed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.context import Member
from dingrelay_workers.directory.database import chunks, upsert
from dingrelay_workers.directory.models import ChangeRow, Event, MembershipRow, UserRow
from dingrelay_workers.directory.runs import Run

DEPARTMENTAL = frozenset({"leader", "leader_in_dept", "dept_order", "dept_order_list"})
"""Fields that hold in one department only; memberships keep them."""

DETAILS = frozenset(
    {
        "dept_position_list",
        "extension_i18n",
        "manager_userid",
        "real_authed",
        "role_list",
        "senior",
        "union_emp_ext",
    }
)
"""Fields that a list of members never holds (API §3.1): that one becomes known is no change."""


@dataclass(slots=True)
class Change:
    """What happened to a person, and in which fields if they only changed."""

    event: Event
    fields: set[str] = field(default_factory=set[str])


Changes = dict[str, Change]
"""Change by userid."""


def news(known: Mapping[str, Any], told: Mapping[str, Any]) -> set[str]:
    """The fields whose value is another one than before.

    A field that was not known may have been hidden or empty. It counts if it has a value now and
    the same kind of answer would have told it before.
    """
    return {
        name
        for name, value in told.items()
        if (known[name] != value if name in known else value and name not in DETAILS)
    }


async def meet(connection: AsyncConnection, run: Run, members: Sequence[Member]) -> Changes:
    """Write what is told of these people; who is new or changed."""
    told = {member.userid: _personal(member) for member in members}
    changes: Changes = {}
    for some in chunks(told):
        known = {
            row.userid: row
            for row in await connection.execute(
                select(UserRow.userid, UserRow.fields, UserRow.met_in, UserRow.left_at).where(
                    UserRow.app == run.app, UserRow.userid.in_(some)
                )
            )
        }
        rows: list[dict[str, Any]] = []
        for userid in some:
            row = known.get(userid)
            if row is None or row.left_at is not None:
                changes[userid] = Change(Event.ADDED)
            elif changed := news(row.fields, told[userid]):
                changes[userid] = Change(Event.CHANGED, changed)
            fields = {**(row.fields if row else {}), **told[userid]}
            met_in = max(run.number, row.met_in if row else 0)
            rows.append(_row(run.app, userid, fields, met_in))
        await upsert(connection, UserRow, rows)
    return changes


async def remove(
    connection: AsyncConnection, run: Run, userids: Collection[str], at: datetime
) -> Changes:
    """Mark those of these people as left who have not left already."""
    changes: Changes = {}
    for some in chunks(userids):
        here = UserRow.app == run.app, UserRow.userid.in_(some), UserRow.left_at.is_(None)
        found = await connection.scalars(select(UserRow.userid).where(*here))
        changes |= {userid: Change(Event.LEFT) for userid in found}
        await connection.execute(update(UserRow).where(*here).values(left_at=at))
        await connection.execute(
            delete(MembershipRow).where(
                MembershipRow.app == run.app, MembershipRow.userid.in_(some)
            )
        )
    return changes


async def not_met(connection: AsyncConnection, run: Run) -> list[str]:
    """Who neither the run nor a newer one met."""
    found = await connection.scalars(
        select(UserRow.userid).where(
            UserRow.app == run.app, UserRow.left_at.is_(None), UserRow.met_in < run.number
        )
    )
    return list(found)


async def count_known_before(connection: AsyncConnection, run: Run) -> int:
    """How many people were there before the run."""
    here = await connection.scalar(
        select(func.count())
        .select_from(UserRow)
        .where(UserRow.app == run.app, UserRow.left_at.is_(None))
    )
    added = await connection.scalar(
        select(func.count())
        .select_from(ChangeRow)
        .where(ChangeRow.number == run.number, ChangeRow.event == Event.ADDED)
    )
    return (here or 0) - (added or 0)


async def record(connection: AsyncConnection, run: Run, changes: Changes, at: datetime) -> None:
    """Note the changes; with what the run found out before, one a person.

    Someone who was added by the run stays added, whatever else it finds out.
    """
    for some in chunks(changes):
        before = {
            row.userid: row
            for row in await connection.execute(
                select(ChangeRow.userid, ChangeRow.event, ChangeRow.fields).where(
                    ChangeRow.number == run.number, ChangeRow.userid.in_(some)
                )
            )
        }
        rows: list[dict[str, Any]] = []
        for userid in some:
            change, row = changes[userid], before.get(userid)
            event, fields = change.event, change.fields
            if row is not None and event is Event.CHANGED:
                event = Event(row.event)
                fields = fields | set(row.fields) if event is Event.CHANGED else set[str]()
            rows.append(
                {
                    "number": run.number,
                    "userid": userid,
                    "app": run.app,
                    "event": event,
                    "fields": sorted(fields),
                    "at": at,
                }
            )
        await upsert(connection, ChangeRow, rows)


def _personal(member: Member) -> dict[str, Any]:
    fields = {name: value for name, value in member.fields.items() if name not in DEPARTMENTAL}
    if "dept_id_list" in fields:
        # DingTalk promises no order, and another order is no change.
        fields["dept_id_list"] = sorted(set(fields["dept_id_list"]))
    return fields


def _row(app: str, userid: str, fields: Mapping[str, Any], met_in: int) -> dict[str, Any]:
    return {
        "app": app,
        "userid": userid,
        "name": fields.get("name"),
        "fields": fields,
        "met_in": met_in,
        "left_at": None,
    }
