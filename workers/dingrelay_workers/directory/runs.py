"""Runs: which departments a user-sync has to read, and how far it is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from dingrelay_producers.store import clock
from dingrelay_tasks.organisation import Progress
from dingrelay_tasks.outcomes import Refused
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import change_rows, chunks, insert_missing, upsert
from dingrelay_workers.directory.models import (
    ChangeEvent,
    ChangeRow,
    DepartmentState,
    RunDepartmentRow,
    RunRow,
    UserRow,
)

_Id = TypeVar("_Id", int, str)

KEPT = timedelta(days=90)
"""How long runs are kept, and the changes that they found."""
FORGOTTEN_RUNS, FORGOTTEN_CHANGES = 5, 1_000
"""Old ones that one run deletes at most, so that no transaction is long. A run has some thousand
departments; most have a few changes only, so nothing grows."""


@dataclass(frozen=True, slots=True)
class Run:
    """An opened run.

    Attributes:
        connection: which writes it, or reads it.
        number: its place among the runs; a newer run has a higher one.
        app: the app whose directory it fills.
        scope: what it walks, as `UserSync.scope`.
        closed: whether it is finished.
        read_at: a moment before all was read that is written now, in ms of Redis's clock.
    """

    connection: AsyncConnection
    number: int
    app: str
    scope: str
    closed: bool
    read_at: int

    async def update(self, table: Any, *where: ColumnElement[bool], **values: Any) -> None:
        """Change the app's rows for which all of this holds."""
        await change_rows(self.connection, table, table.app == self.app, *where, **values)

    async def delete(self, table: Any, *where: ColumnElement[bool]) -> None:
        """Delete the app's rows for which all of this holds."""
        await self.connection.execute(delete(table).where(table.app == self.app, *where))

    async def count(self, table: Any, *where: ColumnElement[bool]) -> int:
        """How many rows there are for which all of this holds."""
        return (
            await self.connection.scalar(select(func.count()).select_from(table).where(*where)) or 0
        )


async def find(connection: AsyncConnection, app: str, run: str, *, read_at: int) -> Run:
    """The run of that id.

    Raises:
        Refused: there is none.
    """
    row = (
        await connection.execute(
            select(RunRow.number, RunRow.scope, RunRow.closed_at).where(
                RunRow.app == app, RunRow.run == run
            )
        )
    ).one_or_none()
    if row is None:
        raise Refused(
            "no_such_run",
            en("the directory knows no run {}", run),
            "the database was replaced while the user-sync ran; enqueue a new one",
        )
    closed = row.closed_at is not None
    return Run(connection, row.number, app, row.scope, closed=closed, read_at=read_at)


async def open_(
    connection: AsyncConnection, app: str, run: str, scope: str, *, calls: int, read_at: int
) -> Run:
    """The run of that id, which is new or was opened by an earlier attempt."""
    row = {
        "app": app,
        "run": run,
        "scope": scope,
        "opened_at": clock.now(),
        "calls": calls,
    }
    await insert_missing(connection, RunRow, [row])
    return await find(connection, app, run, read_at=read_at)


def gone_users(run: Run) -> Select[str]:
    """People unknown to DingTalk when the run read them."""
    return select(ChangeRow.userid).where(
        ChangeRow.number == run.number, ChangeRow.event == ChangeEvent.GONE
    )


async def not_met(run: Run, key: InstrumentedAttribute[_Id], most: int) -> list[_Id]:
    """People or departments that neither the run nor a newer one met, and that are not known to be gone."""
    table: Any = key.class_
    query = select(key).where(
        table.app == run.app, table.left_at.is_(None), table.met_in < run.number
    )
    if table is UserRow:
        query = query.where(key.not_in(gone_users(run)))
    return list(await run.connection.scalars(query.order_by(key).limit(most)))


async def keep(run: Run, key: InstrumentedAttribute[_Id], ids: Collection[_Id]) -> None:
    """Count these people or departments as met, without new fields."""
    table: Any = key.class_
    for batch in chunks(ids):
        await run.update(table, key.in_(batch), table.met_in < run.number, met_in=run.number)


async def drop_if_nothing_new(run: Run) -> None:
    """Forget a run that found nothing new: events tell of people by the thousand.

    Its number is not given to another.
    """
    changes = select(ChangeRow.number).where(ChangeRow.number == run.number).limit(1)
    if await run.connection.scalar(changes) is None:
        await run.delete(RunRow, RunRow.number == run.number)


async def close(run: Run, *, users: int) -> None:
    """The run is finished. Some of the app's runs that are too old are deleted with it."""
    now = clock.now()
    await run.update(RunRow, RunRow.number == run.number, closed_at=now, users=users)
    await _forget_before(run.connection, run.app, now - KEPT)


async def _forget_before(connection: AsyncConnection, app: str, moment: datetime) -> None:
    """Delete some of the oldest runs that were opened before, with what they found."""
    oldest = await connection.execute(
        select(RunRow.number, RunRow.opened_at)
        .where(RunRow.app == app)
        .order_by(RunRow.number)
        .limit(FORGOTTEN_RUNS)
    )
    old = [row.number for row in oldest if row.opened_at < moment]
    if not old:
        return
    changes = (
        select(ChangeRow.number, ChangeRow.userid)
        .where(ChangeRow.number.in_(old))
        .limit(FORGOTTEN_CHANGES)
    )
    await connection.execute(
        delete(ChangeRow).where(tuple_(ChangeRow.number, ChangeRow.userid).in_(changes))
    )
    has_changes = select(ChangeRow.number).where(ChangeRow.number == RunRow.number).exists()
    await connection.execute(delete(RunRow).where(RunRow.number.in_(old), ~has_changes))


async def note(run: Run, departments: Sequence[int], *, parent: int | None) -> None:
    """The run has to read these departments, too. One that is noted already stays as it is."""
    rows = [
        {
            "number": run.number,
            "department": department,
            "parent": parent,
            "state": DepartmentState.PENDING,
            "calls": 0,
        }
        for department in departments
    ]
    await insert_missing(run.connection, RunDepartmentRow, rows)


async def state(run: Run, department: int) -> DepartmentState | None:
    """The department's state; None: it is not in the run."""
    name = await run.connection.scalar(
        select(RunDepartmentRow.state).where(
            RunDepartmentRow.number == run.number, RunDepartmentRow.department == department
        )
    )
    return None if name is None else DepartmentState(name)


async def settle(run: Run, department: int, outcome: DepartmentState, *, calls: int) -> None:
    """The department was read, or is known not to exist."""
    row = {
        "number": run.number,
        "department": department,
        "state": outcome,
        "calls": calls,
    }
    await upsert(run.connection, RunDepartmentRow, [row])


async def fail(run: Run, department: int) -> None:
    """Mark the department as failed, and those of its children that are still pending."""
    subtree = or_(RunDepartmentRow.department == department, RunDepartmentRow.parent == department)
    pending = RunDepartmentRow.state == DepartmentState.PENDING
    which = RunDepartmentRow.number == run.number, subtree, pending
    await change_rows(run.connection, RunDepartmentRow, *which, state=DepartmentState.FAILED)


async def children(run: Run, department: int) -> list[int]:
    """The departments that this one listed first."""
    return await _departments(run, RunDepartmentRow.parent == department)


async def in_state(run: Run, state: DepartmentState, most: int | None = None) -> list[int]:
    """Departments of the run in this state, by id."""
    return await _departments(run, RunDepartmentRow.state == state, most)


async def _departments(run: Run, which: ColumnElement[bool], most: int | None = None) -> list[int]:
    key = RunDepartmentRow.department
    query = select(key).where(RunDepartmentRow.number == run.number, which)
    return list(await run.connection.scalars(query.order_by(key).limit(most)))


async def add_calls(run: Run, calls: int) -> None:
    """The run made calls that belong to no department of it."""
    await run.update(RunRow, RunRow.number == run.number, calls=RunRow.calls + calls)


async def pending(run: Run) -> int:
    """How many departments are noted and not settled."""
    state = RunDepartmentRow.state == DepartmentState.PENDING
    return await run.count(RunDepartmentRow, RunDepartmentRow.number == run.number, state)


async def progress(run: Run) -> Progress:
    """Counts of the run so far."""
    states = {
        row.state: (row.departments, row.calls)
        for row in await run.connection.execute(
            select(
                RunDepartmentRow.state,
                func.count().label("departments"),
                func.sum(RunDepartmentRow.calls).label("calls"),
            )
            .where(RunDepartmentRow.number == run.number)
            .group_by(RunDepartmentRow.state)
        )
    }
    events = {
        row.event: row.people
        for row in await run.connection.execute(
            select(ChangeRow.event, func.count().label("people"))
            .where(ChangeRow.number == run.number)
            .group_by(ChangeRow.event)
        )
    }
    totals = (
        await run.connection.execute(
            select(RunRow.calls, RunRow.users).where(RunRow.number == run.number)
        )
    ).one()
    return Progress(
        pending=states.get(DepartmentState.PENDING, (0, 0))[0],
        failed=await in_state(run, DepartmentState.FAILED),
        departments=states.get(DepartmentState.DONE, (0, 0))[0],
        users=await count_users(run) if totals.users is None else totals.users,
        added=events.get(ChangeEvent.ADDED, 0),
        changed=events.get(ChangeEvent.CHANGED, 0),
        left=events.get(ChangeEvent.LEFT, 0),
        calls=totals.calls + sum(calls for _, calls in states.values()),
    )


async def count_users(run: Run) -> int:
    """How many people the run, or a newer one, has met."""
    met = UserRow.left_at.is_(None), UserRow.met_in >= run.number
    return await run.count(UserRow, UserRow.app == run.app, *met)
