"""The forms that sessions have sent: each is carried out once."""

import asyncio
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import delete, insert, select, update

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.sessions.models import ConsoleFormRow, ConsoleSessionRow
from dingrelay_workers.sessions.sessions import TIMEOUT, WRITER, Session

SAID_FOR = timedelta(minutes=1)
"""Time in which a page shows the result of a form."""
ASK_EVERY, ASK_FOR = 0.1, 10.0
"""Seconds between two looks for the result of the same form that is being carried out, and for how long."""


class Sent(NamedTuple):
    """A form that was carried out.

    Attributes:
        location: where it led.
        state: a digest of the state in which it left what it changed; "" of a form that is good for any.
    """

    location: str
    state: str


class Forms:
    """The forms that were sent, for as long as their sessions. Methods raise `ServiceUnavailable` as `Sessions`.

    Args:
        database: with its tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, session: Session, digest: str) -> Sent | None:
        """Take a form to be carried out.

        Returns:
            The first time that it was; None if this is the first time.

        Raises:
            ServiceUnavailable: it is being carried out, or was when the console ended.
        """
        row = {"digest": digest, "session": session.digest, "at": clock.now()}
        is_of_session = ConsoleSessionRow.digest == session.digest
        query = select(ConsoleFormRow.digest).where(ConsoleFormRow.digest == digest)
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            if is_first := await connection.scalar(query) is None:
                more = {"forms": ConsoleSessionRow.forms + 1}
                await connection.execute(insert(ConsoleFormRow).values(**row))
                await connection.execute(
                    update(ConsoleSessionRow).where(is_of_session).values(**more)
                )
        return None if is_first else await self._first(digest)

    async def end(self, digest: str, sent: Sent, said: str) -> None:
        """Keep where it led and what it left, and what is said there."""
        is_form = ConsoleFormRow.digest == digest
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            await connection.execute(
                update(ConsoleFormRow).where(is_form).values(**sent._asdict(), said=said)
            )

    async def release(self, digest: str) -> None:
        """It changed nothing, and may be sent again."""
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            await connection.execute(delete(ConsoleFormRow).where(ConsoleFormRow.digest == digest))

    async def said(self, session: Session, digest: str) -> str:
        """The result of a form that this session has just sent; "" if there is none."""
        query = select(ConsoleFormRow.said).where(
            ConsoleFormRow.digest == digest,
            ConsoleFormRow.session == session.digest,
            ConsoleFormRow.at > clock.now() - SAID_FOR,
        )
        async with answering(TIMEOUT), self._database.read() as connection:
            return (await connection.scalar(query)) or ""

    async def _first(self, digest: str) -> Sent:
        query = select(ConsoleFormRow.location, ConsoleFormRow.state).where(
            ConsoleFormRow.digest == digest
        )
        for _ in range(round(ASK_FOR / ASK_EVERY)):
            async with answering(TIMEOUT), self._database.read() as connection:
                row = (await connection.execute(query)).one_or_none()
            if row is not None and row.location is not None:
                return Sent(row.location, row.state)
            await asyncio.sleep(ASK_EVERY)
        raise ServiceUnavailable(
            en(
                "this form is being carried out, or was when the console ended: look what it has done"
            )
        )
