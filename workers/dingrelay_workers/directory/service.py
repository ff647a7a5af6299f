"""The directory as it is read: a page at a time, and by names and addresses."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.history_documents import KnownPerson
from dingrelay_workers.database.database import CHUNK, Database, chunks, rows_among
from dingrelay_workers.database.errors import answering
from dingrelay_workers.directory import addresses
from dingrelay_workers.directory.departments import tree
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow

SCOPE = "directory:read"
TIMEOUT = 1.8
"""Seconds that a request waits for the database."""
MOST_NODES = 500
"""Departments that are shown to choose from at once."""


_ADDRESSED = re.compile(r"[小老阿大](\w)|(\w)(?:总|哥|姐|工|经理|老师|主任)")
"""How colleagues call each other by their family names."""
InDepartment = Row[str, str, int, str | None]
"""App and userid of a person, id and name of a department that they are directly in."""


class PersonDocument(BaseModel):
    """A person in the directory."""

    userid: str
    name: str | None
    departments: list[int]
    """Departments of which they are a direct member."""
    fields: dict[str, Any]
    """All fields that DingTalk returned, under its own names."""
    left_at: datetime | None
    """When they were marked as left; null if they have not left."""


class DepartmentDocument(BaseModel):
    """A department of the directory."""

    id: int
    name: str | None
    parent: int | None
    """The department above it; null for the root."""
    people: int
    """People in it and in all departments below it, each counted once."""
    leaf: bool
    """There is none below it."""
    fields: dict[str, Any]
    """All fields that DingTalk returned, under its own names."""


class DepartmentNode(BaseModel):
    """A department as one chooses it: where it stands, and how many people that is."""

    id: int
    name: str
    parent: int | None
    people: int
    """People in it and in all departments below it, each counted once."""
    leaf: bool
    """There is none below it."""


class DirectoryService:
    """Reads the directory of an app. Every method raises `ServiceUnavailable` where the database is away.

    `users` and `departments` raise `NotPermitted` where the app is not the actor's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def users(
        self, app: str, *, department: int | None, left: bool, after: str | None, limit: int
    ) -> Sequence[PersonDocument]:
        """People by userid, after one of them."""
        current_reach().check(SCOPE, app=app)
        query = select(UserRow.userid, UserRow.name, UserRow.fields, UserRow.left_at)
        query = query.where(UserRow.app == app).order_by(UserRow.userid).limit(limit)
        query = query.where(UserRow.left_at.is_not(None) if left else UserRow.left_at.is_(None))
        if after is not None:
            query = query.where(UserRow.userid > after)
        async with answering(TIMEOUT), self._database.read() as connection:
            if department is not None:
                inside = select(MembershipRow.userid).where(
                    MembershipRow.app == app,
                    MembershipRow.department.in_(tree(app, [department])),
                )
                query = query.where(UserRow.userid.in_(inside))
            rows = (await connection.execute(query)).mappings().all()
            departments_of = await _departments(connection, [(app, row["userid"]) for row in rows])
        return [
            PersonDocument(
                **row,
                departments=[department.id for department in departments_of[app, row["userid"]]],
            )
            for row in rows
        ]

    async def departments(
        self, app: str, *, parent: int | None, named: str = "", after: int | None, limit: int
    ) -> Sequence[DepartmentDocument]:
        """Departments that exist and whose name has this in it, by id, after one of them."""
        current_reach().check(SCOPE, app=app)
        query = select(
            DepartmentRow.id, DepartmentRow.name, DepartmentRow.parent, DepartmentRow.fields
        ).where(DepartmentRow.present(app))
        if parent is not None:
            query = query.where(DepartmentRow.parent == parent)
        if named:
            query = query.where(DepartmentRow.name.contains(named, autoescape=True))
        if after is not None:
            query = query.where(DepartmentRow.id > after)
        async with answering(TIMEOUT), self._database.read() as connection:
            answer = await connection.execute(query.order_by(DepartmentRow.id).limit(limit))
            rows = answer.mappings().all()
            parents = await _parents(connection, app)
            below = await _below(connection, app, parents, [row["id"] for row in rows])
        return [DepartmentDocument(**row, **below[row["id"]]) for row in rows]

    async def userid_of(self, app: str, which: ColumnElement[bool]) -> str | None:
        """The one person that fits; None if none does, several do, or they have left."""
        query = select(UserRow.userid).where(UserRow.app == app, which, UserRow.left_at.is_(None))
        async with answering(TIMEOUT), self._database.read() as connection:
            userids = (await connection.scalars(query.limit(2))).all()
        return userids[0] if len(userids) == 1 else None

    async def nodes(
        self, app: str, *, parents: Collection[int] = (), ids: Collection[int] = (), named: str = ""
    ) -> tuple[Sequence[DepartmentNode], int]:
        """Departments that exist, by id: `ids`, the top, those called so, what is directly below the top, and what is below `parents`.

        Of the others than `ids` as many as are shown at once; and how many more there are.
        """
        query = select(DepartmentRow.id, DepartmentRow.name, DepartmentRow.parent)
        query = query.where(DepartmentRow.present(app))
        async with answering(TIMEOUT), self._database.read() as connection:
            existing = (await connection.execute(query.order_by(DepartmentRow.id))).all()
            parents_of = {row.id: row.parent for row in existing}
            opened = {
                *parents,
                None,
                *(department for department, above in parents_of.items() if above is None),
            }
            tops = [row for row in existing if row.parent is None]
            by_name = [row for row in existing if named and named in (row.name or "")]
            in_open = [row for row in existing if row.parent in opened]
            others = dict.fromkeys([*tops, *by_name, *in_open])
            offered = [row for row in others if row.id not in ids]
            shown = {*ids, *(row.id for row in offered[:MOST_NODES])}
            rows = [row for row in existing if row.id in shown]
            below = await _below(connection, app, parents_of, [row.id for row in rows])
        return [
            DepartmentNode(
                id=row.id, name=row.name or str(row.id), parent=row.parent, **below[row.id]
            )
            for row in rows
        ], max(0, len(offered) - MOST_NODES)

    async def names_by_department(self, app: str, ids: Collection[int]) -> dict[int, str]:
        """The names of those of these departments that exist and have one."""
        if not ids:
            return {}
        query = select(DepartmentRow.id, DepartmentRow.name)
        query = query.where(DepartmentRow.present(app), DepartmentRow.name != "")
        async with answering(TIMEOUT), self._database.read() as connection:
            rows = await rows_among(connection, query, DepartmentRow.id, ids)
        return {row.id: row.name for row in rows}


async def _parents(connection: AsyncConnection, app: str) -> dict[int, int | None]:
    """Department that exists → the one above it."""
    query = select(DepartmentRow.id, DepartmentRow.parent)
    query = query.where(DepartmentRow.present(app))
    return {row.id: row.parent for row in await connection.execute(query)}


async def _below(
    connection: AsyncConnection,
    app: str,
    parents: Mapping[int, int | None],
    departments: Collection[int],
) -> dict[int, dict[str, Any]]:
    """``people`` in each of these departments and in all below it, each once; and whether it is a ``leaf``.

    `parents`: department → the one above it.
    """
    place, is_of_app = MembershipRow.department, MembershipRow.app == app
    direct = select(place, func.count()).where(is_of_app).group_by(place)
    members = {row[0]: row[1] for row in await connection.execute(direct)}
    user = MembershipRow.userid
    several = select(user).where(is_of_app).group_by(user).having(func.count() > 1)
    places: dict[str, list[int]] = defaultdict(list)
    for userid, department in await connection.execute(
        select(user, place).where(is_of_app, user.in_(several))
    ):
        places[userid].append(department)
    children: dict[int | None, list[int]] = defaultdict(list)
    for department, parent in parents.items():
        children[parent].append(department)
    counts: dict[int, dict[str, Any]] = {}
    for top in departments:
        below, ahead = set[int](), [top]
        while ahead:
            # A department that moved during a walk may stand in a circle until the next one.
            if (department := ahead.pop()) not in below:
                below.add(department)
                ahead += children[department]
        again = (
            len(below.intersection(departments_of_person)) - 1
            for departments_of_person in places.values()
        )
        people = sum(members.get(department, 0) for department in below) - sum(
            max(0, repeats) for repeats in again
        )
        counts[top] = {"people": people, "leaf": below == {top}}
    return counts


async def _departments(
    connection: AsyncConnection, people: Collection[tuple[str, str]]
) -> dict[tuple[str, str], list[InDepartment]]:
    """The departments of people, by app and userid, in the order of their ids."""
    person = MembershipRow.app, MembershipRow.userid
    in_it = (MembershipRow.app == DepartmentRow.app) & (
        MembershipRow.department == DepartmentRow.id
    )
    query = select(*person, DepartmentRow.id, DepartmentRow.name).join(DepartmentRow, in_it)
    departments: dict[tuple[str, str], list[InDepartment]] = defaultdict(list)
    for batch in chunks(people, CHUNK // 2):
        rows = await connection.execute(
            query.where(tuple_(*person).in_(batch)).order_by(DepartmentRow.id)
        )
        for row in rows:
            departments[row.app, row.userid].append(row)
    return departments


def named(text: str) -> ColumnElement[bool]:
    """Condition: the text is part of the name, or is the userid or an address."""
    addressed = addresses.columns(
        {"mobile": text, "email": text, "org_email": text, "job_number": text}
    )
    same = [getattr(UserRow, name) == value for name, value in addressed.items() if value]
    return or_(UserRow.name.contains(text, autoescape=True), UserRow.userid == text, *same)


def alike(text: str) -> ColumnElement[bool]:
    """Condition: `named`, or the name has all characters of the text, or the part in a form of address such as 小王."""
    names = [UserRow.name.contains(character, autoescape=True) for character in text[:8]]
    if address := _ADDRESSED.fullmatch(text):
        name = address[1] or address[2]
        return or_(named(text), and_(*names), UserRow.name.contains(name, autoescape=True))
    return or_(named(text), and_(*names))


async def find_people(
    connection: AsyncConnection,
    which: ColumnElement[bool],
    *,
    app: str | None,
    limit: int | None = None,
    departments: int | None = None,
) -> list[KnownPerson]:
    """People, those who are there first, each with the names of their departments.

    Args:
        connection: to the directory.
        which: of them.
        app: of this app's directory only; None for all.
        limit: how many at most; None for all.
        departments: how many of each one's departments at most; None for all.
    """
    query = (
        select(UserRow.app, UserRow.userid, UserRow.name, UserRow.job_number, UserRow.left_at)
        .where(which)
        .order_by(UserRow.left_at.is_not(None), UserRow.name, UserRow.app, UserRow.userid)
        .limit(limit)
    )
    if app is not None:
        query = query.where(UserRow.app == app)
    rows = (await connection.execute(query)).all()
    departments_of = await _departments(connection, [(row.app, row.userid) for row in rows])
    return [
        KnownPerson(
            app=row.app,
            userid=row.userid,
            name=row.name or "",
            job_number=row.job_number or "",
            left_at=row.left_at,
            departments=[
                department.name or "" for department in departments_of[row.app, row.userid]
            ][:departments],
        )
        for row in rows
    ]
