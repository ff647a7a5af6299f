"""Who has signed in to the console, and how: by a link that is good once, for ten minutes.

A token is 256 random bits and is stored as its digest. A session ends after twelve hours, after two hours without
a page, and when its person signs out.
"""

import hashlib
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.console.models import ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering

LINK_LIVES = timedelta(minutes=10)
SESSION_LIVES = timedelta(hours=12)
IDLE = timedelta(hours=2)
NOTED_EVERY = timedelta(minutes=1)
"""Between two notes of a session's last use: a page that renews itself must not write each time."""
PATIENCE = 2.0
"""Seconds that a page waits for the database."""

_WRITER = "console"


@dataclass(frozen=True, slots=True)
class Session:
    """A person at a browser.

    Attributes:
        user: who.
        token: of the cookie.
    """

    user: str
    token: str = field(repr=False)

    @property
    def form_token(self) -> str:
        """What a form of this session carries: no other site can know it."""
        return _digest(f"form {self.token}")


class Sessions:
    """Links and sessions. Every method raises `ServiceUnavailable` where the database is away.

    Args:
        database: with its tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def link(self, user: str) -> str:
        """The token of a new link for a person."""
        token = secrets.token_urlsafe(32)
        row = {"digest": _digest(token), "user": user, "ends_at": datetime.now(UTC) + LINK_LIVES}
        async with self._writing() as connection:
            await connection.execute(insert(ConsoleLinkRow).values(**row))
        return token

    async def sign_in(self, link: str) -> Session | None:
        """The new session of who has this link; None if it was used, is too old or none of ours."""
        now = datetime.now(UTC)
        async with self._writing() as connection:
            await connection.execute(delete(ConsoleLinkRow).where(ConsoleLinkRow.ends_at <= now))
            await connection.execute(delete(ConsoleSessionRow).where(_ended(now)))
            used = ConsoleLinkRow.digest == _digest(link)
            user = await connection.scalar(select(ConsoleLinkRow.user).where(used))
            if user is None:
                return None
            await connection.execute(delete(ConsoleLinkRow).where(used))
            token = secrets.token_urlsafe(32)
            row = {"digest": _digest(token), "user": user, "begun_at": now, "used_at": now}
            await connection.execute(insert(ConsoleSessionRow).values(**row))
        return Session(user, token)

    async def find(self, token: str) -> Session | None:
        """The session of this token; None if it has ended or is none of ours."""
        now = datetime.now(UTC)
        ours = ConsoleSessionRow.digest == _digest(token)
        async with answering(PATIENCE), self._database.read() as connection:
            query = select(ConsoleSessionRow.user, ConsoleSessionRow.used_at)
            row = (await connection.execute(query.where(ours, ~_ended(now)))).one_or_none()
        if row is None:
            return None
        if now - row.used_at >= NOTED_EVERY:
            async with self._writing() as connection:
                await connection.execute(update(ConsoleSessionRow).where(ours).values(used_at=now))
        return Session(row.user, token)

    async def sign_out(self, session: Session) -> None:
        """End a session."""
        ours = ConsoleSessionRow.digest == _digest(session.token)
        async with self._writing() as connection:
            await connection.execute(delete(ConsoleSessionRow).where(ours))

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        async with answering(PATIENCE), self._database.write(_WRITER) as connection:
            yield connection


def _ended(now: datetime) -> ColumnElement[bool]:
    return or_(
        ConsoleSessionRow.begun_at <= now - SESSION_LIVES, ConsoleSessionRow.used_at <= now - IDLE
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
