"""People, and the events that tell how they changed."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.context import Member
from dingrelay_workers.database.database import chunks, insert_missing, upsert
from dingrelay_workers.directory import addresses, notices
from dingrelay_workers.directory.changes import Change, Changes
from dingrelay_workers.directory.models import ChangeRow, Event, MembershipRow, UserRow
from dingrelay_workers.directory.order import Held, is_newer, is_not_newer
from dingrelay_workers.directory.runs import Run, gone_users

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


def news(known: Mapping[str, Any], given: Mapping[str, Any]) -> set[str]:
    """The fields whose value is another one than before.

    A field that was not known may have been hidden or empty. It counts if it has a value now and
    the same kind of answer would have told it before.
    """
    return {
        name
        for name, value in given.items()
        if (known[name] != value if name in known else value and name not in DETAILS)
    }


async def meet(connection: AsyncConnection, run: Run, members: Sequence[Member]) -> Changes:
    """Write what is told of these people; who is new or changed.

    Whoever was found to have left since it was read stays so.
    """
    given = {member.userid: _personal(member) for member in members}
    changes: Changes = {}
    for some in chunks(given):
        known = {
            row.userid: row
            for row in await connection.execute(
                select(UserRow.__table__).where(UserRow.app == run.app, UserRow.userid.in_(some))
            )
        }
        rows: list[dict[str, Any]] = []
        for userid in some:
            row = known.get(userid)
            if row is not None and row.left_at is not None and is_newer(row.read_at, run):
                continue
            before = Held(row.fields, row.read_at, row.detailed_at) if row else Held()
            taken = before.taken(given[userid], run, DETAILS)
            if row is None or row.left_at is not None:
                changes[userid] = Change(Event.ADDED)
            elif changed := news(row.fields, taken):
                changes[userid] = Change(Event.CHANGED, changed)
            met_in = max(run.number, row.met_in if row else 0)
            rows.append(_row(run.app, userid, before.after(taken, run, DETAILS), met_in))
        await upsert(connection, UserRow, rows)
    return changes


async def remove(
    connection: AsyncConnection, run: Run, userids: Collection[str], at: datetime
) -> Changes:
    """Mark those of these people as left who have not left already, nor were met since.

    Of who was not known a row is made, too: what was read before this may still be to be written.
    """
    changes: Changes = {}
    for some in chunks(userids):
        gone = Held({}, read_at=run.read_at)
        rows = [{**_row(run.app, userid, gone, run.number), "left_at": at} for userid in some]
        await insert_missing(connection, UserRow, rows)
        here = UserRow.app == run.app, UserRow.userid.in_(some), is_not_newer(UserRow.read_at, run)
        found = await connection.scalars(
            select(UserRow.userid).where(*here, UserRow.left_at.is_(None))
        )
        leave = list(found)
        changes |= {userid: Change(Event.LEFT) for userid in leave}
        await connection.execute(update(UserRow).where(*here).values(read_at=run.read_at))
        leaving = UserRow.app == run.app, UserRow.userid.in_(leave)
        await connection.execute(update(UserRow).where(*leaving).values(left_at=at))
        await connection.execute(
            delete(MembershipRow).where(
                MembershipRow.app == run.app, MembershipRow.userid.in_(leave)
            )
        )
    return changes


async def not_met(connection: AsyncConnection, run: Run, most: int) -> list[str]:
    """People that neither the run nor a newer one met, and that are not known to be gone."""
    found = await connection.scalars(
        select(UserRow.userid)
        .where(UserRow.app == run.app, UserRow.left_at.is_(None), UserRow.met_in < run.number)
        .where(UserRow.userid.not_in(gone_users(run)))
        .order_by(UserRow.userid)
        .limit(most)
    )
    return list(found)


async def gone(connection: AsyncConnection, run: Run) -> list[str]:
    """People that DingTalk did not know any more when the run asked for them."""
    found = await connection.scalars(
        gone_users(run)
        .join(UserRow, (UserRow.app == ChangeRow.app) & (UserRow.userid == ChangeRow.userid))
        .where(UserRow.left_at.is_(None), UserRow.met_in < run.number)
    )
    return list(found)


async def reunite(connection: AsyncConnection, run: Run) -> None:
    """Let whoever came back under another userid be the person who left.

    DingTalk may give a person who is hired again a new userid; the unionid stays (API §3.1).
    """
    left = UserRow.app == run.app, UserRow.left_at.is_not(None)
    if await connection.scalar(select(UserRow.userid).where(*left).limit(1)) is None:
        return
    unionid = UserRow.fields["unionid"].as_string()
    came_or_went = await connection.scalars(
        select(unionid)
        .join(ChangeRow, (ChangeRow.app == UserRow.app) & (ChangeRow.userid == UserRow.userid))
        .where(ChangeRow.number == run.number, ChangeRow.event.in_([Event.ADDED, Event.LEFT]))
        .where(unionid.is_not(None))
    )
    for some in chunks(set(came_or_went)):
        rows = await connection.execute(
            select(UserRow.userid, UserRow.left_at, unionid.label("unionid")).where(
                UserRow.app == run.app, unionid.in_(some)
            )
        )
        here: dict[str, list[str]] = {}
        before: dict[str, list[str]] = {}
        for row in rows:
            (here if row.left_at is None else before).setdefault(row.unionid, []).append(row.userid)
        for person, userids in here.items():
            if len(userids) == 1:
                await _merge(connection, run.app, userids[0], before.get(person, []))


async def _merge(connection: AsyncConnection, app: str, here: str, before: Sequence[str]) -> None:
    """Drop the rows of a person's old userids; what happened to those happened to this one.

    Their fields go: an account that is new has its own.
    """
    for old in before:
        own = ChangeRow.app == app, ChangeRow.userid == old
        runs_of_both = select(ChangeRow.number).where(
            ChangeRow.app == app, ChangeRow.userid == here
        )
        await connection.execute(delete(ChangeRow).where(*own, ChangeRow.number.in_(runs_of_both)))
        await connection.execute(update(ChangeRow).where(*own).values(userid=here))
        await connection.execute(delete(UserRow).where(UserRow.app == app, UserRow.userid == old))


async def keep(connection: AsyncConnection, run: Run, userids: Collection[str]) -> None:
    """Count these people as met, though nothing is told of them."""
    for some in chunks(userids):
        await connection.execute(
            update(UserRow)
            .where(UserRow.app == run.app, UserRow.userid.in_(some), UserRow.met_in < run.number)
            .values(met_in=run.number)
        )


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
    """Note the changes, and tell of them; with what the run found out before, one a person.

    Someone who was added by the run stays added, whatever else it finds out.
    """
    await notices.write_people(connection, run.app, changes, at)
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


def _row(app: str, userid: str, held: Held, met_in: int) -> dict[str, Any]:
    return {
        "app": app,
        "userid": userid,
        "name": held.fields.get("name"),
        "fields": dict(held.fields),
        "met_in": met_in,
        "left_at": None,
        "read_at": held.read_at,
        "detailed_at": held.detailed_at,
        **addresses.columns(held.fields),
    }
