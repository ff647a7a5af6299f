"""Who is below a department, and who is everyone: read in pages, however many they are."""

from collections.abc import AsyncIterator

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import aliased

from dingrelay_workers.directory.database import Database
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow

PAGE = 1_000
"""Userids a query."""


def below(app: str, department: int) -> Select[str]:
    """The userids of a department and all departments below it, each once."""
    tree = (
        select(DepartmentRow.id)
        .where(DepartmentRow.app == app, DepartmentRow.id == department)
        .where(DepartmentRow.left_at.is_(None))
        .cte("tree", recursive=True)
    )
    child = aliased(DepartmentRow)
    # UNION drops what is there already, so that even a circle comes to an end.
    tree = tree.union(
        select(child.id)
        .join(tree, child.parent == tree.c.id)
        .where(child.app == app, child.left_at.is_(None))
    )
    # Asked for each person in turn, a page costs no more than the people that it passes.
    return everyone(app).where(
        exists()
        .where(MembershipRow.app == app, MembershipRow.userid == UserRow.userid)
        .where(MembershipRow.department.in_(select(tree.c.id)))
    )


def everyone(app: str) -> Select[str]:
    """The userids of all who have not left."""
    return select(UserRow.userid).where(UserRow.app == app, UserRow.left_at.is_(None))


async def pages(database: Database, audience: Select[str]) -> AsyncIterator[list[str]]:
    """The audience by userid, a page at a time; no transaction stays open between pages."""
    page = audience.order_by(UserRow.userid).limit(PAGE)
    after: str | None = None
    while True:
        async with database.read() as connection:
            found = await connection.scalars(
                page if after is None else page.where(UserRow.userid > after)
            )
            userids = list(found)
        if userids:
            yield userids
        if len(userids) < PAGE:
            return
        after = userids[-1]


async def count(database: Database, audience: Select[str]) -> int:
    """How many people the audience holds."""
    async with database.read() as connection:
        found = await connection.scalar(select(func.count()).select_from(audience.subquery()))
    return found or 0
