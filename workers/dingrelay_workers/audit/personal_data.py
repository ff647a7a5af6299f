"""A person in the audit: the changes that they made, those of their roles, and those in their name."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import en
from dingrelay_workers.audit.models import OF_PEOPLE, AuditRow
from dingrelay_workers.database.database import change_rows
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores, rows_of

CONSOLE = "console"
"""The door whose actors are people; those of the others are keys and users of systems."""


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """All of them, the latest first."""
    async with stores.database.read() as connection:
        return [dict(row) for row in reversed(await _rows(connection, subject))]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Let the tombstone stand for the person; what was changed stays on record."""
    async with stores.database.write("audit") as connection:
        for row in await _rows(connection, erasing, AuditRow.at <= erasing.since):
            values = AuditRow.__people__.renamed(_of_people(row), erasing.user, erasing.tombstone)
            if "actor" in values:
                values["name"] = ""
            of_row = AuditRow.number == row["number"]
            erasing.changed["audit"] += await change_rows(connection, AuditRow, of_row, **values)


async def _rows(
    connection: AsyncConnection, subject: DataSubject, *where: ColumnElement[bool]
) -> list[dict[str, Any]]:
    rows = await rows_of(connection, AuditRow, subject, *where, app=AuditRow.app)
    return [row for row in rows if AuditRow.__people__.names(_of_people(row), subject.user)]


def _of_people(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without ids of others than people: an object may be a job ``1001``."""
    names = {"actor": row["door"] == CONSOLE, "object": row["kind"] in OF_PEOPLE}
    if row["kind"] == "role" and row["object"].startswith("department:"):
        names |= dict.fromkeys(("object", "before", "after"), False)
    return {name: value for name, value in row.items() if names.get(name, True)}


PERSONAL_DATA = PersonalData(
    place="audit", title=en("audit"), tables=(AuditRow,), export=export, erase=erase
)
