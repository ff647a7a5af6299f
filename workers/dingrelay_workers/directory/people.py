"""People, and the events that tell how they changed."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from dingrelay_tasks.organisation import Member
from dingrelay_workers.database.database import chunks, insert_missing, rows_among, upsert
from dingrelay_workers.directory import addresses, notices, omissions
from dingrelay_workers.directory.handovers import hand_over
from dingrelay_workers.directory.models import (
    Change,
    ChangeEvent,
    ChangeRow,
    Changes,
    MembershipRow,
    OmittedFieldRow,
    UserRow,
)
from dingrelay_workers.directory.order import HeldAnswer, is_newer, is_not_newer
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


UNIONID = "unionid"


def news(before: Mapping[str, Any], fields: Mapping[str, Any]) -> set[str]:
    """The fields whose value is another one than before.

    A field that was unknown may have been hidden or empty. It counts if it has a value now and
    the same kind of answer would have returned it before.
    """
    return {
        name
        for name, value in fields.items()
        if (before[name] != value if name in before else value and name not in DETAILS)
    }


async def meet(
    run: Run, members: Sequence[Member], at: datetime, *, listed: bool
) -> tuple[Changes, dict[str, set[str]]]:
    """Write the given fields of these people.

    A person found to have left since it was read stays so.

    Args:
        connection: of the app's writer.
        run: which read the answers.
        members: the people, each once.
        at: when it is written.
        listed: they are a list of members, not users' own answers.

    Returns:
        The new and changed people, and the fields that answers left out for the first time, by
        userid.
    """
    fields_by_userid = {member.userid: _personal(member) for member in members}
    changes: Changes = {}
    fresh: dict[str, set[str]] = {}
    for batch in chunks(fields_by_userid):
        outdated = await _identify(run, {userid: fields_by_userid[userid] for userid in batch}, at)
        people = select(UserRow.__table__).where(UserRow.app == run.app, UserRow.userid.in_(batch))
        rows_before = {row.userid: row for row in await run.connection.execute(people)}
        rows: list[dict[str, Any]] = []
        left_out: dict[str, set[str]] = {}
        for userid in batch:
            row = rows_before.get(userid)
            has_left = row is not None and row.left_at is not None and is_newer(row.read_at, run)
            if has_left or userid in outdated:
                continue
            before = HeldAnswer(row.fields, row.read_at, row.detailed_at) if row else HeldAnswer()
            fields = before.taken(fields_by_userid[userid], run, DETAILS)
            if row is None or row.left_at is not None:
                changes[userid] = Change(ChangeEvent.ADDED)
            elif changed := news(row.fields, fields):
                changes[userid] = Change(ChangeEvent.CHANGED, changed)
            left_out[userid] = before.left_out(
                fields_by_userid[userid], run, DETAILS, listed=listed
            )
            met_in = max(run.number, row.met_in if row else 0)
            rows.append(_row(run.app, userid, before.after(fields, run, DETAILS), met_in))
        await upsert(run.connection, UserRow, rows)
        present = {userid: fields_by_userid[userid].keys() for userid in left_out}
        fresh |= await omissions.note(run, present, left_out, listed=listed)
    shown = {
        name for fields in fields_by_userid.values() for name, value in fields.items() if value
    }
    cleared = await omissions.take_cleared(run, shown, listed=listed)
    await _clear(run, cleared)
    for userid, names in cleared.items():
        changes.setdefault(userid, Change(ChangeEvent.CHANGED)).fields |= names
    return changes, fresh


async def _identify(run: Run, answers: Mapping[str, Mapping[str, Any]], at: datetime) -> set[str]:
    """End what stands under a userid or a unionid that belongs to another by now.

    DingTalk may give a person who is hired again a new userid, and the old one to another person; the
    unionid stays (API §3.1). A person's new userid takes over what happened to the old one, but not
    its fields: an account that is new has its own.

    Returns:
        The userids whose answers are older than what is known of who has them.
    """
    unionids = {
        userid: fields[UNIONID] for userid, fields in answers.items() if fields.get(UNIONID)
    }
    query = select(
        UserRow.userid, UserRow.unionid, UserRow.fields, UserRow.read_at, UserRow.left_at
    ).where(
        UserRow.app == run.app,
        or_(UserRow.userid.in_(unionids), UserRow.unionid.in_(set(unionids.values()))),
    )
    rows: dict[str, Any] = {row.userid: row for row in await run.connection.execute(query)}
    outdated: set[str] = set()
    ended: set[str] = set()
    for userid, unionid in unionids.items():
        row = rows.get(userid)
        if row is not None and (row.fields.get(UNIONID) or unionid) != unionid:
            (outdated if is_newer(row.read_at, run) else ended).add(userid)
    owners = {unionid: userid for userid, unionid in unionids.items() if userid not in outdated}
    successors: dict[str, str] = {}
    for userid, row in rows.items():
        unionid = row.unionid or ""
        owner = owners.get(unionid, userid)
        if owner == userid:
            continue
        if row.fields.get(UNIONID) != unionid:
            # A worker of 0.2.0 wrote another person's fields there.
            await run.update(UserRow, UserRow.userid == userid, unionid=None)
        elif row.left_at is None and is_newer(row.read_at, run):
            owners[unionid] = userid
        else:
            successors[userid] = owner
    over = {
        userid
        for userid, unionid in unionids.items()
        if userid not in outdated and owners[unionid] != userid
    }
    former = ended | over | successors.keys()
    if former:
        departures = await remove(run, former, at, are_others=True)
        await record(run, departures, at)
        await _forget(run, former)
    for old, new in successors.items():
        await _pass_on(run, old, new)
        if rows[old].left_at is not None:
            await run.delete(UserRow, UserRow.userid == old)
    return outdated | over


async def _pass_on(run: Run, old: str, new: str) -> None:
    """Copy a person's history from the old userid to the new one.

    That DingTalk does not know the old one says nothing of the new one.
    """
    of_old = ChangeRow.userid == old
    of_both = select(ChangeRow.number).where(ChangeRow.app == run.app, ChangeRow.userid == new)
    needless = ChangeRow.number.in_(of_both) | (ChangeRow.event == ChangeEvent.GONE)
    await run.delete(ChangeRow, of_old, needless)
    await run.update(ChangeRow, of_old, userid=new)


async def _clear(run: Run, cleared: omissions.Names) -> None:
    """Take these fields out of people's rows. A text is empty: an older read must not bring it back."""
    query = select(UserRow.userid, UserRow.fields).where(UserRow.app == run.app)
    for row in await rows_among(run.connection, query, UserRow.userid, cleared):
        names = cleared[row.userid]
        fields = {name: value for name, value in row.fields.items() if name not in names}
        texts = {name: "" for name in names if isinstance(row.fields.get(name), str)}
        values = {"fields": fields | texts, **addresses.columns(fields | texts)}
        await run.update(UserRow, UserRow.userid == row.userid, **values)


async def remove(
    run: Run,
    userids: Collection[str],
    at: datetime,
    *,
    are_others: bool = False,
) -> Changes:
    """Mark those of these people as left who have not left already, nor were met since.

    Of who was not known a row is made, too: what was read before this may still be to be written.
    `are_others`: not the userids are gone, but their people; who has them now may have been read before.
    """
    changes: Changes = {}
    for batch in chunks(userids):
        nothing = HeldAnswer({}, read_at=run.read_at)
        rows = [{**_row(run.app, userid, nothing, run.number), "left_at": at} for userid in batch]
        await insert_missing(run.connection, UserRow, rows)
        older = UserRow.userid.in_(batch), is_not_newer(UserRow.read_at, run)
        present = select(UserRow.userid).where(UserRow.app == run.app, UserRow.left_at.is_(None))
        leave = list(await run.connection.scalars(present.where(*older)))
        changes |= {userid: Change(ChangeEvent.LEFT) for userid in leave}
        if not are_others:
            await run.update(UserRow, *older, read_at=run.read_at)
        await run.update(UserRow, UserRow.userid.in_(leave), left_at=at)
        for table in (MembershipRow, OmittedFieldRow):
            await run.delete(table, table.userid.in_(leave))
    return changes


async def _forget(run: Run, userids: Collection[str]) -> None:
    """Keep nothing of what was known of these people, who have left.

    Nothing shows any more that another person has their userid, so what they have by it ends now.
    """
    nothing: dict[str, Any] = {"unionid": None, "name": None, "fields": {}, "detailed_at": 0}
    nothing |= addresses.columns({})
    for batch in chunks(userids):
        have_left = UserRow.userid.in_(batch), UserRow.left_at.is_not(None)
        query = select(UserRow.userid).where(UserRow.app == run.app, *have_left)
        forgotten = list(await run.connection.scalars(query))
        await hand_over(run.connection, run.app, forgotten, given_away=True)
        await run.update(UserRow, *have_left, **nothing)


async def gone(run: Run) -> list[str]:
    """People unknown to DingTalk when the run read them."""
    userids = await run.connection.scalars(
        gone_users(run)
        .join(UserRow, (UserRow.app == ChangeRow.app) & (UserRow.userid == ChangeRow.userid))
        .where(UserRow.left_at.is_(None), UserRow.met_in < run.number)
    )
    return list(userids)


async def count_known_before(run: Run) -> int:
    """How many people were there before the run."""
    present = await run.count(UserRow, UserRow.app == run.app, UserRow.left_at.is_(None))
    added = ChangeRow.number == run.number, ChangeRow.event == ChangeEvent.ADDED
    return present - await run.count(ChangeRow, *added)


async def record(run: Run, changes: Changes, at: datetime) -> None:
    """Note the changes, and tell of them; with what the run found out before, one a person.

    Someone who was added by the run stays added, whatever else it finds out.
    """
    await notices.write(run.connection, run.app, UserRow.userid, changes, at)
    query = select(ChangeRow.userid, ChangeRow.event, ChangeRow.fields)
    query = query.where(ChangeRow.number == run.number)
    noted = await rows_among(run.connection, query, ChangeRow.userid, changes)
    before = {row.userid: row for row in noted}
    rows: list[dict[str, Any]] = []
    for userid, change in changes.items():
        row, event, fields = before.get(userid), change.event, change.fields
        if row is not None and event is ChangeEvent.CHANGED:
            event = ChangeEvent(row.event)
            fields = fields | set(row.fields) if event is ChangeEvent.CHANGED else set[str]()
        columns = {"event": event, "fields": sorted(fields), "at": at}
        rows.append({"number": run.number, "userid": userid, "app": run.app, **columns})
    await upsert(run.connection, ChangeRow, rows)


def _personal(member: Member) -> dict[str, Any]:
    fields = {name: value for name, value in member.fields.items() if name not in DEPARTMENTAL}
    if "dept_id_list" in fields:
        # DingTalk promises no order, and another order is no change.
        fields["dept_id_list"] = sorted(set(fields["dept_id_list"]))
    return fields


def _row(app: str, userid: str, held: HeldAnswer, met_in: int) -> dict[str, Any]:
    return {
        "app": app,
        "userid": userid,
        "unionid": held.fields.get(UNIONID) or None,
        "name": held.fields.get("name"),
        "fields": dict(held.fields),
        "met_in": met_in,
        "left_at": None,
        "read_at": held.read_at,
        "detailed_at": held.detailed_at,
        **addresses.columns(held.fields),
    }
