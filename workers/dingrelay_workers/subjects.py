"""The person of an export or an erasure, and the declaration of a noun's personal data."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, LargeBinary, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.personal_data import Remaining
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import Database, change_rows

NEEDED = timedelta(hours=36)
"""How long a sent message keeps the names of its people: the Beijing day in which DingTalk drops a
repeat of the same content, and the 24 hours in which it takes a message back or reports its
delivery (API §2.3, §2.4), with a margin for jobs that do so."""


class Stores(NamedTuple):
    """The database and Redis."""

    database: Database
    redis: Redis


@dataclass(frozen=True, slots=True)
class DataSubject:
    """The person of a request.

    Attributes:
        user: their userid.
        app: of this app only; None for all.
        instances: their approvals: an event of one has their name in its title.
    """

    user: str
    app: str | None = None
    instances: frozenset[str] = frozenset()

    def covers(self, app: str) -> bool:
        """Whether what belongs to an app is asked about."""
        return self.app in {None, app}

    def among(self, query: Any, app: Any) -> Any:
        """The query, of those apps only that are asked about."""
        return query if self.app is None else query.where(app == self.app)


@dataclass(frozen=True, slots=True)
class Erasing(DataSubject):
    """The person that is erased.

    Attributes:
        since: what was asked for or read later stays.
        tombstone: what stands where their userid stood.
        now: the time by Redis's clock.
        changed: place → rows and records that the person was taken out of.
        left: what had to stay for now.
        returned: the apps whose directories have them again, or will: they belong to the organisation.
        looked_up: the apps whose directories must still have them: something that is left may name them by an address.
    """

    since: datetime = field(kw_only=True)
    tombstone: str = field(kw_only=True)
    now: datetime = field(kw_only=True)
    changed: Counter[str] = field(default_factory=Counter[str])
    left: list[Remaining] = field(default_factory=list[Remaining])
    returned: set[str] = field(default_factory=set[str])
    looked_up: set[str] = field(default_factory=set[str])

    def leave(
        self,
        place: str,
        name: object,
        reason: str,
        until: datetime | None = None,
        *,
        hint: str = "",
    ) -> None:
        """Note that something of the person can't be erased yet, as `Remaining` names it."""
        self.left.append(
            Remaining(place=place, id=str(name), reason=reason, until=until, hint=hint)
        )


SubjectT = TypeVar("SubjectT", bound=DataSubject)
Rows = Sequence[dict[str, Any]]
Export = Callable[[Stores, DataSubject], Awaitable[Rows]]
Erase = Callable[[Stores, Erasing], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """The personal data of one place.

    Attributes:
        place: its name in exports and erasures.
        title: the same for people.
        tables: those of its tables that hold people (`PersonColumns`).
        keys: those of its keys in Redis that do (`store.keys.PEOPLE`).
        export: everything of a person there.
        erase: takes a person out of it, and notes what is still needed.
        instances: the ids of approvals that a person, or one of these tombstones, asked for.
    """

    place: str
    title: str
    tables: Collection[type[Base]] = ()
    keys: Collection[str] = ()
    export: Export
    erase: Erase
    instances: (
        Callable[[AsyncConnection, DataSubject, Sequence[str]], Awaitable[frozenset[str]]] | None
    ) = None


async def rows_of(
    connection: AsyncConnection,
    table: type[Base],
    subject: DataSubject,
    *where: ColumnElement[bool],
    app: Any = None,
) -> list[dict[str, Any]]:
    """The rows of a table that name the person in its person columns; of those apps, where it has an `app`. Without files."""
    people = table.__people__
    columns = [
        column for column in table.__table__.columns if not isinstance(column.type, LargeBinary)
    ]
    query = select(*columns).where(people.may_name(table, subject.user), *where)
    if app is not None:
        query = subject.among(query, app)
    query = query.order_by(*table.__table__.primary_key)
    rows = (await connection.execute(query)).mappings()
    return [row for row in map(dict, rows) if people.names(row, subject.user)]


async def rename_in_rows(
    connection: AsyncConnection,
    table: type[Base],
    rows: Sequence[Mapping[str, Any]],
    erasing: Erasing,
) -> int:
    """Let the tombstone stand for the person in the person columns of these rows; how many changed."""
    changed = 0
    key = list(table.__table__.primary_key)
    for row in rows:
        if values := table.__people__.renamed(row, erasing.user, erasing.tombstone):
            same = [getattr(table, column.key) == row[column.key] for column in key]
            changed += await change_rows(connection, table, *same, **values)
    return changed
