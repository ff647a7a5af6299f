"""The audit, written in the transaction of a change, and read."""

from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_jsonable_python
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import Door, current_actor, current_reach
from dingrelay_producers.client.filters import AuditFilter
from dingrelay_producers.client.verbs import declared, verb
from dingrelay_producers.enqueuing.connections import read_clock
from dingrelay_producers.language import tr
from dingrelay_producers.settings import Settings
from dingrelay_producers.spreadsheet import csv_line
from dingrelay_producers.store import clock
from dingrelay_producers.zone import local
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.database.database import Database, chunks, latest_first, narrowed, rows_among
from dingrelay_workers.database.errors import answering, reading

if TYPE_CHECKING:
    from dingrelay_workers.maintenance.clean_up import CleanUp

KEPT = timedelta(days=400)
"""Retention of rows: more than a year, so that a yearly audit meets all of one."""
SLICE = 5_000
"""Rows that are deleted in one transaction."""
PAGE = 500
"""Rows that are read at once where all are wanted."""
TIMEOUT = 1.5
"""Seconds that a request waits for the database."""

_LONGEST_REASON = 500
_SCOPE = "audit:read"

Place = tuple[datetime, int]
"""Position of a row in the list: its moment and its number."""


Spelled = Callable[[str, str], str]
"""Field and value of a change → how the value is shown."""


def as_it_is(_: str, value: str) -> str:
    """A value of a change, as it is."""
    return value


class AuditEntry(BaseModel):
    """A change: who made it, through which door, and what it changed."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    at: datetime
    actor: str
    """A person's userid, the id of an API key, or a user of the operating system."""
    name: str
    """Name of the person or the key."""
    door: Door
    role: str
    app: str
    lane: str
    """Lane of the object; empty where it has none."""
    action: str
    kind: str
    """Kind of the object, such as `campaign`."""
    object: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str
    request: str

    def change(self, spelled: Spelled = as_it_is) -> str:
        """The change in the reader's language, as ``state draft → running``.

        Args:
            spelled: field and value → how the value is shown.
        """
        values: dict[str, list[str]] = {}
        for name, value in chain((self.before or {}).items(), (self.after or {}).items()):
            if value not in (None, "", []):
                values.setdefault(name, []).append(spelled(name, _spelled(value)))
        words = {
            "subject": tr("subject"),
            "replaced_by": tr("replaced by"),
            "directory": tr("directory"),
        }
        return ", ".join(
            f"{words.get(name) or tr(name)} {' → '.join(steps)}" for name, steps in values.items()
        )


async def record(
    connection: AsyncConnection,
    action: str,
    kind: str,
    *names: str,
    app: str = "",
    lane: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
) -> None:
    """Write down a change in its transaction.

    Args:
        connection: in the transaction of the change.
        action: such as ``start``.
        kind: of the object.
        names: the ids of the objects: at least one, and some hundreds at most.
        app: the objects'.
        lane: the objects'.
        before: small values that the change replaces.
        after: small values that it leads to.
        reason: that is given with it; the actor's if empty.
    """
    actor = current_actor()
    row = {
        "at": clock.now(),
        "actor": actor.id,
        "name": actor.name,
        "door": actor.door,
        "role": actor.role,
        "app": app,
        "lane": lane,
        "action": action,
        "kind": kind,
        "before": to_jsonable_python(before),
        "after": to_jsonable_python(after),
        "reason": (reason or actor.reason).replace("\0", "")[:_LONGEST_REASON],
        "request": actor.request[:128],
    }
    await connection.execute(insert(AuditRow), [{**row, "object": name} for name in names])


async def record_verb(
    connection: AsyncConnection, body: Callable[..., Any], *names: str, **values: Any
) -> None:
    """Write down in its transaction what the body of a verb, a method of an object, has done to the objects `names`.

    Action and kind are those of its declaration; `values` are those of `record`.
    """
    await record(connection, *declared(body), *names, **values)


class AuditService:
    """The audit. Every method raises `ServiceUnavailable` where the database is away.

    Args:
        settings: where it is.
        database: of a process with its tables. Without one connections are opened for each call.
    """

    NOUN = "audit"

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database

    async def note(self, action: str, kind: str, names: Sequence[str], **values: Any) -> None:
        """Write down a change of Redis, before it is made, of each of these objects; `values` are those of `record`.

        A command on a machine without a database writes nothing.
        """
        database = self._database or Database(self._settings.database)
        if self._database is None:
            await read_clock(self._settings)
        try:
            async with answering(TIMEOUT if self._database else None):
                if self._database is None and not await database.has(AuditRow):
                    return
                for batch in chunks(names):
                    async with database.write("audit") as connection:
                        await record(connection, action, kind, *batch, **values)
        finally:
            if self._database is None:
                await database.dispose()

    async def list(
        self, audit_filter: AuditFilter, *, limit: int, after: Place | None = None
    ) -> Sequence[AuditEntry]:
        """Changes of the actor's apps, the latest first, behind the one at this place."""
        if (apps := current_reach().apps_of(_SCOPE)) is not None:
            audit_filter = replace(audit_filter, apps=apps)
        query = narrowed(select(AuditRow.__table__), AuditRow, audit_filter)
        if audit_filter.since:
            query = query.where(AuditRow.at >= audit_filter.since)
        page = latest_first(query, AuditRow.at, AuditRow.number, behind=after, limit=limit)
        within = TIMEOUT if self._database else None
        async with reading(self._settings, AuditRow, self._database, within=within) as connection:
            if connection is None:
                return []
            return [AuditEntry.model_validate(row) for row in await connection.execute(page)]

    async def changes_of(
        self, kind: str, objects: Collection[str], since: datetime
    ) -> Sequence[AuditEntry]:
        """The changes of these objects from then on, the earliest first."""
        query = select(AuditRow.__table__).where(AuditRow.kind == kind, AuditRow.at >= since)
        query = query.order_by(AuditRow.number)
        async with reading(self._settings, AuditRow, self._database, within=TIMEOUT) as connection:
            if connection is None:
                return []
            rows = await rows_among(connection, query, AuditRow.object, objects)
            return [AuditEntry.model_validate(row) for row in rows]

    @verb(scope=_SCOPE)
    async def export(self, audit_filter: AuditFilter) -> AsyncIterator[AuditEntry]:
        """Every one, for a file; this is noted as well."""
        await self.note(*declared(self.export), [self.NOUN])
        async for entry in self.every(audit_filter):
            yield entry

    async def every(
        self, audit_filter: AuditFilter, *, most: int | None = None
    ) -> AsyncIterator[AuditEntry]:
        """The same one by one, without an end if there is no `most`."""
        place: Place | None = None
        while most is None or most > 0:
            limit = PAGE if most is None else min(PAGE, most)
            entries = await self.list(audit_filter, limit=limit, after=place)
            for entry in entries:
                yield entry
            if len(entries) < limit:
                return
            most = most and most - limit
            place = (entries[-1].at, entries[-1].number)


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return tr("yes") if value else tr("no")
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _columns() -> dict[str, str]:
    """Columns of the CSV file: field → heading."""
    return {
        "number": tr("number"),
        "at": tr("at"),
        "actor": tr("actor"),
        "name": tr("name"),
        "door": tr("door"),
        "role": tr("role"),
        "app": tr("app"),
        "lane": tr("lane"),
        "action": tr("action"),
        "kind": tr("kind"),
        "object": tr("object"),
        "change": tr("change"),
        "reason": tr("reason"),
        "request": tr("request"),
    }


def csv_lines(changes: Iterable[AuditEntry]) -> Iterator[str]:
    """The lines of a CSV file, in the reader's language and time."""
    yield csv_line(_columns().values())
    yield from map(csv_line_of, changes)


def csv_line_of(change: AuditEntry, spelled: Spelled = as_it_is) -> str:
    """The line of a change; `spelled` as for `AuditEntry.change`."""
    row = {**dict(change), "at": local(change.at)[:19], "change": change.change(spelled)}
    return csv_line(row[name] for name in _columns())


async def clean_up(work: "CleanUp") -> None:
    """Delete the rows that are older than `KEPT`."""
    while await delete_before(work.database, work.now() - KEPT) == SLICE:
        work.step()


async def delete_before(database: Database, moment: datetime) -> int:
    """Delete a slice of the rows from before; how many there were."""
    old = select(AuditRow.number).where(AuditRow.at < moment).order_by(AuditRow.at).limit(SLICE)
    async with database.write("audit") as connection:
        deletion = await connection.execute(delete(AuditRow).where(AuditRow.number.in_(old)))
    return deletion.rowcount
