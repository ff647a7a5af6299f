"""Sessions of the console, and links that are good for one sign-in within ten minutes.

A token is 256 random bits and is stored as its digest. A session ends after twelve hours, after two hours without
a page, and when its person signs out.
"""

import hashlib
import secrets
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

from pydantic import AfterValidator
from sqlalchemy import ColumnElement, bindparam, case, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_actor, current_reach
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.errors import NotPermitted
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.store import clock
from dingrelay_tasks.contract import ContractError, Document
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.http.api_keys import ANY, Grant
from dingrelay_workers.maintenance.clean_up import CleanUp
from dingrelay_workers.roles.scopes import ROLES, permitted
from dingrelay_workers.roles.service import grants_of
from dingrelay_workers.sessions.models import ConsoleLinkRow, ConsoleSessionRow

LINK_LIVES = timedelta(minutes=10)
SESSION_LIVES = timedelta(hours=12)
IDLE = timedelta(hours=2)
NOTED_EVERY = timedelta(minutes=1)
"""Between two notes of a session's last use: a page that renews itself must not write each time."""
TIMEOUT = 2.0
"""Seconds that a page waits for the database."""

MOST_NAMED = 50
"""People of one name that are looked at."""

WRITER = "console"
"""Name of the writer lock."""
NAME = (
    select(UserRow.name)
    .where(
        UserRow.userid == ConsoleSessionRow.user,
        # A person of no directory is looked up where most people are.
        UserRow.app == func.coalesce(func.nullif(ConsoleSessionRow.directory, ""), DEFAULT_APP),
    )
    .scalar_subquery()
    .label("name")
)
_FOUND = select(
    ConsoleSessionRow.user,
    ConsoleSessionRow.directory,
    ConsoleSessionRow.role,
    ConsoleSessionRow.roles,
    ConsoleSessionRow.issuers,
    ConsoleSessionRow.forms,
    ConsoleSessionRow.used_at,
    NAME,
).where(
    ConsoleSessionRow.digest == bindparam("digest"),
    ConsoleSessionRow.begun_at > bindparam("begun"),
    ConsoleSessionRow.used_at > bindparam("used"),
)
"""Made once: that takes as long as to carry it out."""


def _check_role(role: str) -> str:
    if role not in ROLES:
        raise ValueError(en("must be one of {}", ", ".join(ROLES)))
    return role


@dataclass(frozen=True, slots=True)
class Session:
    """A person at a browser.

    Attributes:
        user: who.
        name: as the directory has it; "" where it does not.
        token: of the cookie.
        grants: one for each role that the person holds.
        directory: the app in whose directory the person is; "" of one who came by a link and is in none.
        forms: that were sent.
        issuers: who made the link, as `Actor.hands`.
    """

    user: str
    token: str = field(repr=False)
    grants: Sequence[Grant]
    directory: str = ""
    forms: int = 0
    name: str = ""
    issuers: Sequence[str] = ()

    @property
    def digest(self) -> str:
        """The digest under which the token is stored."""
        return _digest(self.token)

    @property
    def form_key(self) -> bytes:
        """The key that signs its forms: no other site can know it."""
        return hashlib.sha256(f"form {self.token}".encode()).digest()

    def may(self, scope: str) -> bool:
        """Whether the person may use pages of this scope."""
        return permitted(self.grants, scope) is not None


class LoginLinkRequest(Document):
    """A link for a person, who has a role then.

    Attributes:
        user: a userid; or a name, which is that of one person of the directories or of none.
        role: such as ``operate``.
    """

    user: str
    role: Annotated[str, AfterValidator(_check_role)] = "admin"


class LoginLinks:
    """Links. Raises `ServiceUnavailable` where the database is away.

    Args:
        database: with its tables.
    """

    NOUN = "login-link"

    def __init__(self, database: Database) -> None:
        self._database = database

    @verb(scope=ANY)
    async def create(self, request: LoginLinkRequest) -> str:
        """Make a link; its token. It is good for its person only, where a directory has one, and as long as they stay.

        Raises:
            NotPermitted: the actor does not have all of the role.
            ContractError: the person has left, or several have this name.
        """
        grant = Grant(name=request.user, scopes=ROLES[request.role])
        if lacking := current_reach().lacks(ANY, grant):
            raise NotPermitted(*lacking)
        token, ends = secrets.token_urlsafe(32), clock.now() + LINK_LIVES
        row = {"digest": _digest(token), "ends_at": ends, "issuers": current_actor().hands}
        # No page waits for it: a machine that is busy, as one that starts, takes its time.
        async with answering(None), self._database.write(WRITER) as connection:
            directory, user = await _person(connection, request.user)
            row |= {"user": user, "directory": directory, "role": request.role}
            await connection.execute(insert(ConsoleLinkRow).values(**row))
            after = {"role": request.role}
            await audit.record_verb(connection, self.create, user, app=directory, after=after)
        return token


class Sessions:
    """Links that are used, and sessions. Every method raises `ServiceUnavailable` where the database is away.

    Args:
        database: with its tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sign_in(self, link: str) -> Session | None:
        """The new session of who has this link; None if it was used, is too old or none of ours."""
        async with self._writing() as connection:
            used = ConsoleLinkRow.digest == _digest(link), ConsoleLinkRow.ends_at > clock.now()
            columns = ConsoleLinkRow.user, ConsoleLinkRow.directory, ConsoleLinkRow.role
            query = select(*columns, ConsoleLinkRow.issuers).where(*used)
            link_row = (await connection.execute(query)).mappings().one_or_none()
            if link_row is None:
                return None
            await connection.execute(delete(ConsoleLinkRow).where(*used))
            return await _begin(connection, **link_row)

    async def begin(self, directory: str, user: str) -> Session | None:
        """A new session of a person, after DingTalk has signed them in; None if the person has no role."""
        async with self._writing() as connection:
            return await _begin(connection, user, directory=directory)

    async def find(self, token: str) -> Session | None:
        """The session of this token; None if it has ended or is none of ours."""
        now = clock.now()
        is_session = ConsoleSessionRow.digest == _digest(token)
        values = {"digest": _digest(token), "begun": now - SESSION_LIVES, "used": now - IDLE}
        async with answering(TIMEOUT), self._database.read() as connection:
            row = (await connection.execute(_FOUND, values)).one_or_none()
            grants: Sequence[Grant] = []
            if row:
                key = SessionKey(row.user, row.directory, row.role)
                grants = (await grants_of_sessions(connection, [key]))[key]
        if row is None:
            return None
        if _digest_of(grants) != row.roles:
            async with self._writing() as connection:
                await connection.execute(delete(ConsoleSessionRow).where(is_session))
            return None
        if now - row.used_at >= NOTED_EVERY:
            async with self._writing() as connection:
                await connection.execute(
                    update(ConsoleSessionRow).where(is_session).values(used_at=now)
                )
        name, issuers = row.name or "", row.issuers
        return Session(row.user, token, grants, row.directory, row.forms, name, issuers)

    async def sign_out(self, session: Session) -> None:
        """End a session."""
        is_session = ConsoleSessionRow.digest == _digest(session.token)
        async with self._writing() as connection:
            await connection.execute(delete(ConsoleSessionRow).where(is_session))

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        async with answering(TIMEOUT), self._database.write(WRITER) as connection:
            yield connection


async def _begin(
    connection: AsyncConnection,
    user: str,
    *,
    directory: str = "",
    role: str = "",
    issuers: Sequence[str] = (),
) -> Session | None:
    now, token = clock.now(), secrets.token_urlsafe(32)
    key = SessionKey(user, directory, role)
    grants = (await grants_of_sessions(connection, [key]))[key]
    if not grants:
        return None
    row = {
        "digest": _digest(token),
        "user": user,
        "directory": directory,
        "role": role,
        "roles": _digest_of(grants),
        "issuers": list(issuers),
        "begun_at": now,
        "used_at": now,
    }
    await connection.execute(insert(ConsoleSessionRow).values(**row))
    return Session(user, token, grants, directory, issuers=issuers)


class SessionKey(NamedTuple):
    """Columns of a session from which its permissions follow.

    Attributes:
        role: of the link that it began with; "" for those of its person.
    """

    user: str
    directory: str
    role: str


async def grants_of_sessions(
    connection: AsyncConnection, sessions: Collection[SessionKey]
) -> Mapping[SessionKey, Sequence[Grant]]:
    """Permissions of sessions: those of a link, or of its person's roles; none once its person has left."""
    people = await grants_of(connection, {(key.directory, key.user) for key in sessions})
    grants: dict[SessionKey, Sequence[Grant]] = {}
    for key in sessions:
        roles = people.get((key.directory, key.user))
        if key.role and (roles is not None or not key.directory):
            grants[key] = [Grant(name=key.user, scopes=ROLES[key.role])]
        else:
            grants[key] = [] if key.role else roles or []
    return grants


async def _person(connection: AsyncConnection, user: str) -> tuple[str, str]:
    """Directory and userid of the person with this userid or name; "" and the same where no directory has one.

    Raises:
        ContractError: the person has left, or several have this name.
    """
    by_app = case((UserRow.app == DEFAULT_APP, 0), else_=1), UserRow.app
    query = select(UserRow.app, UserRow.userid, UserRow.left_at).order_by(*by_app)
    rows = (await connection.execute(query.where(UserRow.userid == user))).all()
    if not rows:
        rows = (await connection.execute(query.where(UserRow.name == user).limit(MOST_NAMED))).all()
    present = [row for row in rows if row.left_at is None]
    if rows and not present:
        raise ContractError("user", en("{} has left the organisation", user))
    if len({row.userid for row in present}) > 1:
        problem = en("several people are called {}: give the userid", user)
        raise ContractError("user", problem)
    return (present[0].app, present[0].userid) if present else ("", user)


def _digest_of(grants: Sequence[Grant]) -> str:
    parts = [list(map(sorted, (grant.scopes, grant.apps, grant.lanes))) for grant in grants]
    return _digest(repr(sorted(parts)))


def ended(now: datetime) -> ColumnElement[bool]:
    """Condition: a session is over at this moment."""
    return or_(
        ConsoleSessionRow.begun_at <= now - SESSION_LIVES, ConsoleSessionRow.used_at <= now - IDLE
    )


async def clean_up(work: CleanUp) -> None:
    """Delete the sessions and links that are over: their people may never sign in again."""
    now = work.now()
    async with work.database.write(WRITER) as connection:
        await connection.execute(delete(ConsoleSessionRow).where(ended(now)))
        await connection.execute(delete(ConsoleLinkRow).where(ConsoleLinkRow.ends_at <= now))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
