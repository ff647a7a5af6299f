"""Finds people by part of a name, or by one of their addresses."""

from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.directory import addresses
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow


async def find(
    connection: AsyncConnection, text: str, *, app: str | None, limit: int
) -> list[dict[str, Any]]:
    """People, those who are there first, each with the names of their departments.

    Args:
        connection: to the directory.
        text: part of a name, a userid, or an address.
        app: of this app's directory only; None for all.
        limit: how many at most.
    """
    addressed = addresses.columns(
        {"mobile": text, "email": text, "org_email": text, "job_number": text}
    )
    same = [getattr(UserRow, name) == value for name, value in addressed.items() if value]
    query = (
        select(UserRow.app, UserRow.userid, UserRow.name, UserRow.job_number, UserRow.left_at)
        .where(or_(UserRow.name.contains(text, autoescape=True), UserRow.userid == text, *same))
        .order_by(UserRow.left_at.is_not(None), UserRow.name, UserRow.app, UserRow.userid)
        .limit(limit)
    )
    if app is not None:
        query = query.where(UserRow.app == app)
    people = [dict(row) for row in (await connection.execute(query)).mappings()]
    for each in people:
        each["departments"] = await departments_of(connection, each["app"], each["userid"])
        each["name"], each["job_number"] = each["name"] or "", each["job_number"] or ""
    return people


async def departments_of(
    connection: AsyncConnection, app: str, userid: str, *, most: int | None = None
) -> list[str]:
    """The names of the departments that a person is in, in the order of their ids; `most` of them."""
    names = (
        select(DepartmentRow.name)
        .join(
            MembershipRow,
            and_(
                MembershipRow.app == DepartmentRow.app,
                MembershipRow.department == DepartmentRow.id,
            ),
        )
        .where(MembershipRow.app == app, MembershipRow.userid == userid)
        .order_by(DepartmentRow.id)
        .limit(most)
    )
    return [name or "" for name in await connection.scalars(names)]
