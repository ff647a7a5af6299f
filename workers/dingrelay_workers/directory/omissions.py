"""Fields that an answer left out although they were known: cleared, or hidden from the app (API §3.1).

An answer leaves out what is empty and what the app may not see. So a field that was left out stays as it
was until another person's answer of the same kind, read no earlier, shows it: then it was cleared.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import exists, select, tuple_

from dingrelay_workers.database.database import CHUNK, chunks, rows_among, upsert
from dingrelay_workers.directory.models import OmittedFieldRow, UserRow
from dingrelay_workers.directory.runs import Run

WITHIN_MS = 3_600_000
"""An answer is valid for reads of at most an hour before: permissions change."""

Names = Mapping[str, Collection[str]]
"""Names of fields by userid."""
_NAMED = OmittedFieldRow.userid, OmittedFieldRow.field


async def note(run: Run, answers: Names, left_out: Names, *, listed: bool) -> dict[str, set[str]]:
    """Write the fields that these answers left out, and forget those that they have again.

    Args:
        connection: in the transaction that wrote these people.
        run: which read the answers.
        answers: the fields of each answer.
        left_out: the known fields that each answer does not have.
        listed: the answers are items of a list of members.

    Returns:
        The part of `left_out` that no answer before had left out.
    """
    fresh = {userid: set(names) for userid, names in left_out.items()}
    again: list[tuple[str, str]] = []
    query = select(*_NAMED).where(OmittedFieldRow.app == run.app)
    for userid, name in await rows_among(run.connection, query, OmittedFieldRow.userid, answers):
        fresh.get(userid, set()).discard(name)
        if name in answers[userid]:
            again.append((userid, name))
    await _forget(run, again)
    common: dict[str, Any] = {"app": run.app, "listed": listed, "read_at": run.read_at}
    rows = [
        {"userid": userid, "field": name, **common}
        for userid, names in left_out.items()
        for name in names
    ]
    await upsert(run.connection, OmittedFieldRow, rows)
    return {userid: names for userid, names in fresh.items() if names}


async def take_cleared(run: Run, shown: Collection[str], *, listed: bool) -> dict[str, set[str]]:
    """The fields that were cleared, by userid, now that answers of the run show them for others."""
    cleared: dict[str, set[str]] = defaultdict(set)
    query = select(*_NAMED).where(
        OmittedFieldRow.app == run.app,
        OmittedFieldRow.listed.is_(listed),
        OmittedFieldRow.read_at.between(run.read_at - WITHIN_MS, run.read_at),
    )
    for userid, name in await rows_among(run.connection, query, OmittedFieldRow.field, shown):
        cleared[userid].add(name)
    await _forget(run, [(userid, name) for userid in cleared for name in cleared[userid]])
    return cleared


async def witnesses(run: Run, userid: str, names: Collection[str]) -> list[str]:
    """People whose answers show whether the app may see these fields: known to have them, lately, too."""
    witness_fields: dict[str, Mapping[str, object]] = {}
    for name in sorted(names):
        if any(fields.get(name) for fields in witness_fields.values()):
            continue
        left_out = exists().where(
            OmittedFieldRow.app == UserRow.app,
            OmittedFieldRow.userid == UserRow.userid,
            OmittedFieldRow.field == name,
        )
        query = select(UserRow.userid, UserRow.fields).where(
            UserRow.app == run.app,
            UserRow.userid != userid,
            UserRow.left_at.is_(None),
            UserRow.fields[name].as_string() != "",
            ~left_out,
        )
        witness_fields |= {
            row.userid: row.fields for row in await run.connection.execute(query.limit(1))
        }
    return list(witness_fields)


async def _forget(run: Run, omissions: Sequence[tuple[str, str]]) -> None:
    for batch in chunks(omissions, CHUNK // 2):
        await run.delete(OmittedFieldRow, tuple_(*_NAMED).in_(batch))
