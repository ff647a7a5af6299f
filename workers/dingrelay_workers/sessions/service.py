"""The sessions of the console that go on, and their ends before their time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import delete, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.store import clock
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import ContractError, Document, UserIdText
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.roles.scopes import roles_held
from dingrelay_workers.sessions.models import ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.sessions.sessions import (
    NAME,
    SESSION_LIVES,
    TIMEOUT,
    WRITER,
    SessionKey,
    ended,
    grants_of_sessions,
)

ID_LENGTH = 12
"""Characters of a session's digest by which it is named."""


class SessionRequest(Document):
    """A session."""

    id: Annotated[
        str,
        Field(min_length=ID_LENGTH, max_length=64),
        Asked("The session's id, as the list has it.", argument=True),
    ]


class SessionsRequest(Document):
    """A person with sessions."""

    user: Annotated[
        str,
        Field(min_length=1, max_length=64),
        Asked("The person, as the list has them.", argument=True),
    ]


class SessionDocument(BaseModel):
    """A session that goes on."""

    id: str
    """The beginning of the digest of its token, which leads to no token."""
    user: UserIdText
    name: str
    """Name in the directory; empty where it has none."""
    directory: str
    """App in whose directory the person is; empty of one who came by a link and is in none."""
    by_link: bool
    """Whether it began with a link of the command line."""
    roles: list[str]
    begun_at: datetime
    used_at: datetime
    """To the minute."""
    ends_at: datetime
    """At the latest."""


class SessionService:
    """Sessions, for the actor of the present task: one that may do more than the actor is not there for it.

    Every method raises `ServiceUnavailable` where the database is away, and a verb `ContractError` where there is no
    such session.

    Args:
        database: with its tables.
    """

    NOUN = "session"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[SessionDocument]:
        """The sessions that go on, the one that was used last first."""
        async with answering(TIMEOUT), self._database.read() as connection:
            return await _visible(connection)

    @verb(scope=ANY, done=en("The session has ended."))
    async def end(self, request: SessionRequest) -> None:
        """End a session; its browser is out within seconds."""
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            sessions = [row for row in await _visible(connection) if row.id == request.id]
            if not sessions:
                raise ContractError("id", en("there is no such session; it may have ended"))
            await _end(connection, sessions)
            (session,) = sessions
            values = {"app": session.directory, "before": {"begun_at": session.begun_at}}
            await audit.record_verb(connection, self.end, session.user, **values)

    @verb(scope=ANY, done=en("All sessions of this person have ended, and their links."))
    async def end_all(self, request: SessionsRequest) -> None:
        """End all sessions of a person, and the links that they have not used."""
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            sessions = [row for row in await _visible(connection) if row.user == request.user]
            links = delete(ConsoleLinkRow).where(ConsoleLinkRow.user == request.user)
            if (apps := current_reach().apps_of(ANY)) is not None:
                links = links.where(ConsoleLinkRow.directory.in_(apps))
            deleted = (await connection.execute(links)).rowcount
            if not sessions and not deleted:
                raise ContractError("user", en("{} is not signed in", request.user))
            await _end(connection, sessions)
            after = {"sessions": len(sessions)}
            await audit.record_verb(connection, self.end_all, request.user, after=after)


async def _visible(connection: AsyncConnection) -> list[SessionDocument]:
    """The sessions that go on and that the actor could have given: with roles and directories that are theirs."""
    table, reach, apps = ConsoleSessionRow, current_reach(), current_reach().apps_of(ANY)
    columns = table.digest, table.user, table.directory, table.role, table.begun_at, table.used_at
    query = select(*columns, NAME).where(not_(ended(clock.now())))
    documents: list[SessionDocument] = []
    rows = (await connection.execute(query.order_by(table.used_at.desc()))).mappings().all()
    keys = [SessionKey(row["user"], row["directory"], row["role"]) for row in rows]
    grants_by_key = await grants_of_sessions(connection, keys)
    for row, key in zip(rows, keys, strict=True):
        grants = grants_by_key[key]
        permitted = all(reach.holds(ANY, grant) for grant in grants)
        if grants and permitted and (apps is None or row["directory"] in apps):
            document = {
                **row,
                "id": row["digest"][:ID_LENGTH],
                "name": row["name"] or "",
                "by_link": bool(row["role"]),
                "roles": roles_held(grants),
                "ends_at": row["begun_at"] + SESSION_LIVES,
            }
            documents.append(SessionDocument.model_validate(document))
    return documents


async def _end(connection: AsyncConnection, sessions: Sequence[SessionDocument]) -> None:
    for session in sessions:
        same = ConsoleSessionRow.digest.startswith(session.id, autoescape=True)
        await connection.execute(
            delete(ConsoleSessionRow).where(same, ConsoleSessionRow.user == session.user)
        )
