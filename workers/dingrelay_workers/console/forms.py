"""The forms of the console. Each is good in one session, for one path and one state, and has one effect.

What a form was made for travels in it, signed with a key that follows from the session's token: nothing is stored
until it is sent, and it outlives a restart.
"""

import asyncio
import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from aiohttp import web
from aiohttp.web_request import FileField
from multidict import MultiDictProxy
from sqlalchemy import delete, insert, select, update
from yarl import URL

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.language import tr
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import LONGEST_FORM, FormValues
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.http.body_reader import FRAMING_ERRORS
from dingrelay_workers.sessions.models import ConsoleFormRow, ConsoleSessionRow
from dingrelay_workers.sessions.service import TIMEOUT, Session

FIELD = "form"
"""The hidden field with the token."""
COUNT = "count"
"""The field in which a number is typed."""
SAID_FOR = timedelta(minutes=1)
"""Time in which a page shows the result of a form."""
ASK_EVERY, ASK_FOR = 0.1, 10.0
"""Seconds between two looks for the result of the same form that is being carried out, and for how long."""


@dataclass(frozen=True, slots=True)
class FormToken:
    """The state and page that a form was made for, and the number to be typed.

    Attributes:
        sent: forms that the session had sent by then, so that the next form differs.
        state: of what it changes, as the person saw it.
        count: that must be typed; "" for none.
        page: on which it stood.
    """

    sent: int
    state: Mapping[str, str]
    count: str
    page: str

    def sealed(self, session: Session, path: str) -> str:
        """The token as a field of a form to this path."""
        text = json.dumps([self.sent, self.state, self.count, self.page], ensure_ascii=False)
        body = urlsafe_b64encode(text.encode(errors="surrogatepass")).decode()
        return f"{body}.{_sign(session, path, body)}"

    @classmethod
    def opened(cls, session: Session, path: str, token: str) -> Self | None:
        """The token of a form that was made in this session for this path; None if it was not."""
        body, _, seal = token.partition(".")
        if not hmac.compare_digest(
            seal.encode(errors="replace"), _sign(session, path, body).encode()
        ):
            return None
        return cls(*json.loads(urlsafe_b64decode(body).decode(errors="surrogatepass")))

    def changed(self, now: Mapping[str, object]) -> list[tuple[str, str, str]]:
        """The differences from what the person saw: name, then, now."""
        present = {name: str(value) for name, value in now.items()}
        names = dict.fromkeys([*self.state, *present])
        pairs = [(name, self.state.get(name, ""), present.get(name, "")) for name in names]
        return [pair for pair in pairs if pair[1] != pair[2]]


def forged() -> web.HTTPForbidden:
    """Refuses what no form of the console sends."""
    return web.HTTPForbidden(reason=tr("This form was not sent from the console."))


async def read_form(request: web.Request, limit: int = LONGEST_FORM) -> FormValues:
    """The values of a form of at most so many bytes.

    Raises:
        HTTPForbidden: no browser sends such a body.
    """
    try:
        return await request.clone(client_max_size=limit).post()
    except FRAMING_ERRORS:
        raise forged() from None


def digest_of_form(session: Session, path: str, form: MultiDictProxy[Any]) -> str:
    """The same for a form that is sent twice; another for one with other values."""
    digest = hashlib.sha256(f"{session.digest} {path}".encode(errors="replace"))
    for name, value in sorted(form.items(), key=lambda entry: entry[0]):
        if isinstance(value, FileField):
            content = hashlib.file_digest(value.file, "sha256").hexdigest()  # type: ignore[arg-type]
            value.file.seek(0)
        else:
            content = str(value)
        digest.update(json.dumps([name, content]).encode())
    return digest.hexdigest()


class Forms:
    """The forms that were sent, for as long as their sessions. Methods raise `ServiceUnavailable` as `Sessions`.

    Args:
        database: with its tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, session: Session, digest: str) -> str | None:
        """Take a form to be carried out.

        Returns:
            Where it led the first time; None if this is the first time.

        Raises:
            ServiceUnavailable: it is being carried out, or was when the console ended.
        """
        row = {"digest": digest, "session": session.digest, "at": clock.now()}
        is_of_session = ConsoleSessionRow.digest == session.digest
        query = select(ConsoleFormRow.digest).where(ConsoleFormRow.digest == digest)
        async with answering(TIMEOUT), self._database.write("console") as connection:
            if is_first := await connection.scalar(query) is None:
                more = {"forms": ConsoleSessionRow.forms + 1}
                await connection.execute(insert(ConsoleFormRow).values(**row))
                await connection.execute(
                    update(ConsoleSessionRow).where(is_of_session).values(**more)
                )
        return None if is_first else await self._first(digest)

    async def end(self, digest: str, location: str, said: str) -> None:
        """Keep where it led, and what is said there."""
        is_form = ConsoleFormRow.digest == digest
        async with answering(TIMEOUT), self._database.write("console") as connection:
            await connection.execute(
                update(ConsoleFormRow).where(is_form).values(location=location, said=said)
            )

    async def release(self, digest: str) -> None:
        """It changed nothing, and may be sent again."""
        async with answering(TIMEOUT), self._database.write("console") as connection:
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

    async def _first(self, digest: str) -> str:
        query = select(ConsoleFormRow.location).where(ConsoleFormRow.digest == digest)
        for _ in range(round(ASK_FOR / ASK_EVERY)):
            async with answering(TIMEOUT), self._database.read() as connection:
                location = await connection.scalar(query)
            if location is not None:
                return location
            await asyncio.sleep(ASK_EVERY)
        raise ServiceUnavailable(
            en(
                "this form is being carried out, or was when the console ended: look what it has done"
            )
        )


def _sign(session: Session, path: str, body: str) -> str:
    # The path of the template and that of the request may differ in what they escape.
    text = f"{URL(path).path}\n{body}"
    return hmac.digest(session.form_key, text.encode(errors="replace"), "sha256").hex()
