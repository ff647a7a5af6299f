"""A person with roles in the console."""

from sqlalchemy import delete, select

from dingrelay_tasks.sentence import en
from dingrelay_workers.roles.models import RoleRow
from dingrelay_workers.roles.service import DEPARTMENT, WRITER
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Their roles."""
    query = select(RoleRow.directory, RoleRow.role, RoleRow.apps, RoleRow.lanes)
    query = query.where(RoleRow.subject == _subject(subject)).order_by(RoleRow.number)
    async with stores.database.read() as connection:
        rows = await connection.execute(subject.among(query, RoleRow.directory))
        return [dict(row) for row in rows.mappings()]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Take them away."""
    theirs = RoleRow.subject == _subject(erasing), RoleRow.given_at <= erasing.since
    query = erasing.among(delete(RoleRow).where(*theirs), RoleRow.directory)
    async with stores.database.write(WRITER) as connection:
        erasing.changed["roles"] += (await connection.execute(query)).rowcount


def _subject(subject: DataSubject) -> str | None:
    """Their name as a role's subject; None where a subject of that name is a department."""
    return None if subject.user.startswith(DEPARTMENT) else subject.user


PERSONAL_DATA = PersonalData(
    place="roles", title=en("roles"), tables=(RoleRow,), export=export, erase=erase
)
