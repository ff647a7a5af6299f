"""Roles given to people and departments, and taken from them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field
from sqlalchemy import String, and_, cast, delete, insert, select, tuple_, union
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.errors import NotPermitted
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.store import clock
from dingrelay_tasks.contract import ContractError, Document
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.directory.service import find_people, named
from dingrelay_workers.http.api_keys import ANY, Grant
from dingrelay_workers.keys.documents import AppChoices, LaneChoices
from dingrelay_workers.roles.models import RoleRow
from dingrelay_workers.roles.scopes import ROLES

TIMEOUT = 2.0
"""Seconds for the database."""
DEPARTMENT = "department:"
"""Prefix of a department's id."""

WRITER = "roles"
"""Name of the writer lock."""


class RoleRequest(Document):
    """A role for a person or a department.

    Attributes:
        subject: a userid, or ``department:17``: everyone in it and in those below.
        role: what they may do.
        directory: the app in whose directory they are.
        apps: for which it counts; ``*`` for all.
        lanes: that their jobs may take.
    """

    subject: Annotated[str, Field(min_length=1, max_length=64)]
    role: Literal["view", "write", "approve", "operate", "admin"]
    directory: str = DEFAULT_APP
    apps: AppChoices
    lanes: LaneChoices

    def grant(self) -> Grant:
        """Permissions of the role."""
        return _grant(self.subject, self.role, self.apps, self.lanes)


class GivenRole(BaseModel):
    """A role that a person or a department has."""

    subject: str
    """A userid, or `department:` and an id."""
    name: str
    """Name of the person or the department; empty where the directory has none."""
    left: bool
    """Whether the directory has them no more: the role allows nothing then."""
    role: str
    directory: str
    apps: list[str]
    lanes: list[str]
    given_at: datetime


class Nominee(NamedTuple):
    """A person or a department that may get a role.

    Attributes:
        among: the departments of a person; "" of a department.
    """

    directory: str
    subject: str
    name: str
    among: str = ""


class RoleService:
    """Reads and changes roles. Every method raises `ServiceUnavailable` where the database is away.

    Verbs are for the actor of the present task, and so are lists: an actor gives and takes what it has, and
    people of other directories are not there for it.

    Args:
        database: with its tables.
    """

    NOUN = "role"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[GivenRole]:
        """All roles that are given, the latest first."""
        query = select(RoleRow.__table__).order_by(RoleRow.given_at.desc(), RoleRow.number.desc())
        async with answering(TIMEOUT), self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
            names = {
                (row["directory"], row["subject"]): await _name(
                    connection, row["directory"], row["subject"]
                )
                for row in rows
            }
        given_roles: list[GivenRole] = []
        for row in rows:
            if not _is_directory_of_actor(row["directory"]):
                continue
            name = names[row["directory"], row["subject"]]
            given_roles.append(GivenRole(**row, name=name or "", left=name is None))
        return given_roles

    async def candidates(self, text: str, limit: int) -> Sequence[Nominee]:
        """People and departments with this in their name, and the person with this userid or address."""
        columns = DepartmentRow.app, DepartmentRow.id, DepartmentRow.name
        query = select(*columns).where(
            DepartmentRow.name.contains(text, autoescape=True), DepartmentRow.left_at.is_(None)
        )
        query = query.order_by(DepartmentRow.app, DepartmentRow.id).limit(limit)
        async with answering(TIMEOUT), self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            is_present = named(text) & UserRow.left_at.is_(None)
            people = await find_people(connection, is_present, app=None, limit=limit, departments=3)
        nominees = [
            *(Nominee(row.app, f"{DEPARTMENT}{row.id}", row.name) for row in rows),
            *(
                Nominee(person.app, person.userid, person.name, ", ".join(person.departments))
                for person in people
            ),
        ]
        return [nominee for nominee in nominees if _is_directory_of_actor(nominee.directory)]

    @verb(scope=ANY)
    async def grant(self, request: RoleRequest) -> None:
        """Give a role; one that the subject has already gets these apps and lanes.

        Raises:
            ContractError: the directory has no such person or department.
            NotPermitted: the actor does not have all of it, or of what it replaces.
        """
        request = request.model_copy(update={"subject": _plain(request.subject)})
        _check_held(request.grant(), request.directory)
        row = {**request.model_dump(), "given_at": clock.now()}
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            if await _name(connection, request.directory, request.subject) is None:
                problem = en(
                    "the directory of {} has no such person or department; dingrelay sync reads it",
                    request.directory,
                )
                raise ContractError("subject", problem)
            before = await self._delete_role(connection, request)
            await connection.execute(insert(RoleRow).values(**row))
            await audit.record_verb(
                connection, self.grant, request.subject, before=before, after=request.model_dump()
            )

    @verb(scope=ANY)
    async def revoke(self, request: RoleRequest) -> None:
        """Take a role away, for all apps and lanes for which it counts.

        Raises:
            ContractError: they do not have it.
            NotPermitted: the actor does not have all of it.
        """
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            before = await self._delete_role(connection, request)
            if before is None:
                raise ContractError("role", en("{} does not have it", request.subject))
            await audit.record_verb(connection, self.revoke, request.subject, before=before)

    async def _delete_role(
        self, connection: AsyncConnection, request: RoleRequest
    ) -> Mapping[str, Any] | None:
        """Delete a role; what it was."""
        columns = RoleRow.subject, RoleRow.role, RoleRow.directory, RoleRow.apps, RoleRow.lanes
        conditions = [
            RoleRow.directory == request.directory,
            RoleRow.subject == request.subject,
            RoleRow.role == request.role,
        ]
        row = (
            (await connection.execute(select(*columns).where(*conditions))).mappings().one_or_none()
        )
        if row is None:
            return None
        held = _grant(row["subject"], row["role"], row["apps"], row["lanes"])
        _check_held(held, row["directory"])
        await connection.execute(delete(RoleRow).where(*conditions))
        return dict(row)


def _is_directory_of_actor(directory: str) -> bool:
    apps = current_reach().apps_of(ANY)
    return apps is None or directory in apps


def _check_held(role: Grant, directory: str) -> None:
    """Refuse to give or take a role, or one in a directory, that the actor does not have.

    Raises:
        NotPermitted: names the field.
    """
    of_directory = role.model_copy(update={"apps": role.apps | {directory}})
    if lacking := current_reach().lacks(ANY, of_directory):
        raise NotPermitted(*lacking)


Person = tuple[str, str]
"""Directory and userid."""


async def grants_of(
    connection: AsyncConnection, people: Collection[Person]
) -> Mapping[Person, Sequence[Grant]]:
    """Permissions from each role of each of these people; a person who is in the directory and has none has an empty list.

    One who has left, or was never there, is left out.
    """
    named = tuple_(UserRow.app, UserRow.userid).in_([*people])
    present = (
        select(UserRow.app, UserRow.userid).where(named, UserRow.left_at.is_(None)).cte("present")
    )
    of_present = (
        select(MembershipRow.app, MembershipRow.userid, MembershipRow.department.label("id"))
        .join(
            present,
            and_(MembershipRow.app == present.c.app, MembershipRow.userid == present.c.userid),
        )
        .cte("above", recursive=True)
    )
    # Equal rows are met once, so departments in a circle end.
    above = of_present.union(
        select(of_present.c.app, of_present.c.userid, DepartmentRow.parent).join(
            of_present,
            and_(DepartmentRow.app == of_present.c.app, DepartmentRow.id == of_present.c.id),
        )
    )
    subjects = union(
        select(present.c.app, present.c.userid, present.c.userid.label("subject")),
        select(above.c.app, above.c.userid, DEPARTMENT + cast(above.c.id, String)).where(
            above.c.id.is_not(None)
        ),
    ).subquery()
    query = (
        select(subjects.c.app, subjects.c.userid, RoleRow.role, RoleRow.apps, RoleRow.lanes)
        .join(
            RoleRow,
            isouter=True,
            onclause=and_(
                RoleRow.directory == subjects.c.app, RoleRow.subject == subjects.c.subject
            ),
        )
        .order_by(RoleRow.number)
    )
    grants: dict[Person, list[Grant]] = {}
    for app, userid, role, apps, lanes in await connection.execute(query):
        of_person = grants.setdefault((app, userid), [])
        if role in ROLES:
            of_person.append(_grant(userid, role, apps, lanes))
    return grants


async def approvers(connection: AsyncConnection, directory: str, app: str) -> list[str]:
    """The people of a directory who were given the role of those who approve by name, for this app."""
    query = select(RoleRow.subject, RoleRow.apps).where(
        RoleRow.directory == directory,
        RoleRow.role == "approve",
        RoleRow.subject.not_like(f"{DEPARTMENT}%"),
    )
    rows = await connection.execute(query.order_by(RoleRow.number))
    return [row.subject for row in rows if {app, ANY} & {*row.apps}]


def _plain(subject: str) -> str:
    """The subject with the id of a department as the directory has it: not 007, nor in full-width digits."""
    number = subject.removeprefix(DEPARTMENT)
    if number == subject or not number.isdecimal():
        return subject
    return f"{DEPARTMENT}{int(number)}"


async def _name(connection: AsyncConnection, directory: str, subject: str) -> str | None:
    """Name of a person or department; None if the directory has it no more."""
    query: Any
    if subject.startswith(DEPARTMENT):
        number = subject.removeprefix(DEPARTMENT)
        if not number.isdecimal() or len(number) > 18:
            return None
        query = select(DepartmentRow.id, DepartmentRow.name).where(
            DepartmentRow.app == directory,
            DepartmentRow.id == int(number),
            DepartmentRow.left_at.is_(None),
        )
    else:
        query = select(UserRow.userid, UserRow.name).where(
            UserRow.app == directory, UserRow.userid == subject, UserRow.left_at.is_(None)
        )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else row.name or ""


def _grant(name: str, role: str, apps: Sequence[str], lanes: Sequence[Any]) -> Grant:
    return Grant(name=name, scopes=ROLES[role], apps=frozenset(apps), lanes=frozenset(lanes))
