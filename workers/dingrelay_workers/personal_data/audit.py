"""A person in the audit: the changes that they made, and those that are about them."""

from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.personal_data.subject import DataSubject, Erasing


async def export(connection: AsyncConnection, subject: DataSubject) -> list[dict[str, Any]]:
    """All of them, the latest first."""
    return list(map(dict, (await connection.execute(_rows(subject))).mappings()))


async def erase(database: Database, erasing: Erasing) -> None:
    """Let the tombstone stand for the person; what was changed stays on record."""
    async with database.write("audit") as connection:
        for row in (await connection.execute(_rows(erasing))).mappings().all():
            values = {
                name: erasing.without(row[name])
                for name in ("actor", "object", "name", "before", "after")
            }
            if row["actor"] == erasing.user:
                values["name"] = ""
            await change_rows(connection, AuditRow, AuditRow.number == row["number"], **values)
            erasing.changed["audit"] += 1


def _rows(subject: DataSubject) -> Any:
    theirs = or_(AuditRow.actor == subject.user, AuditRow.object == subject.user)
    query = select(AuditRow.__table__).where(theirs).order_by(AuditRow.number.desc())
    return subject.among(query, AuditRow.app)
