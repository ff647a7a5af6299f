"""The table of approvals: what is told of them, written where it is news."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.settings import LOOKS
from dingrelay_tasks.context import ApprovalChange, ApprovalTask
from dingrelay_workers.approvals import notices
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.database.database import Database, insert_missing, upsert

RUNNING = "running"
_RANKS = {RUNNING: 0, "approved": 1, "refused": 1, "terminated": 1, "deleted": 2}
"""A state gives way to one of a higher rank only. A decision is never taken back by what is told
late; but an approval can be deleted once it is decided."""

_TASK_RANKS = {RUNNING: 0, "cancelled": 1, "agreed": 2, "refused": 2, "redirected": 2}
"""The same for tasks."""


KEPT = timedelta(days=90)
"""How long an approval that has ended is kept, since it last changed."""
FORGOTTEN = 20
"""Old ones that are deleted at most when one is added, so that no transaction is long."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a change led to.

    Attributes:
        row: the approval after it.
        state: the state that is new; None if it is the one from before.
        tasks: the tasks that are new or stand differently.
    """

    row: RowMapping
    state: str | None
    tasks: Sequence[ApprovalTask]


class ApprovalStore:
    """The approvals of one app.

    Args:
        database: with its tables.
        app: whose they are.
        looks: seconds for which nothing may be heard of an approval before the first look, the
            second …, as `ApprovalSettings.looks`.
    """

    def __init__(self, database: Database, app: str, looks: Sequence[float] = LOOKS) -> None:
        self._database = database
        self._app = app
        self._looks = [timedelta(seconds=seconds) for seconds in looks]

    async def find(self, instance: str) -> RowMapping | None:
        """An approval by its id."""
        async with self._database.read() as connection:
            return await self._row(connection, instance)

    async def tasks(self, instances: Collection[str]) -> dict[str, list[RowMapping]]:
        """The tasks of some approvals, in the order of DingTalk's numbers."""
        by_instance: dict[str, list[RowMapping]] = {instance: [] for instance in instances}
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(ApprovalTaskRow.__table__)
                .where(ApprovalTaskRow.app == self._app, ApprovalTaskRow.instance.in_(instances))
                .order_by(ApprovalTaskRow.since, ApprovalTaskRow.task)
            )
            for row in rows.mappings():
                by_instance[row["instance"]].append(row)
        return by_instance

    async def open(
        self,
        instance: str,
        *,
        job: str,
        template: str,
        originator: str,
        sender: str,
        at: datetime,
        look_now: bool = False,
    ) -> RowMapping:
        """The approval's row; made if it is not there yet.

        `look_now`: a new one is to be asked for at once, and not after the first delay.
        """
        known = await self.find(instance)
        if known is not None and (known["job"] or not job):
            return known
        async with self._database.write(writer_of(self._app)) as connection:
            return await self._open(
                connection,
                instance,
                job=job,
                template=template,
                originator=originator,
                sender=sender,
                at=at,
                look_at=at if look_now else self._next_look(0, at),
            )

    async def record(self, change: ApprovalChange, *, at: datetime) -> Moved | None:
        """Write what was told, where it is news; None if the approval is not in the table."""
        async with self._database.write(writer_of(self._app)) as connection:
            row = await self._row(connection, change.instance)
            if row is None:
                return None
            return await self._record(connection, row, change, at)

    async def _open(
        self,
        connection: AsyncConnection,
        instance: str,
        *,
        job: str,
        template: str,
        originator: str,
        sender: str,
        at: datetime,
        look_at: datetime,
    ) -> RowMapping:
        fields = {"job": job, "sender": sender, "template": template, "originator": originator}
        await insert_missing(
            connection,
            ApprovalRow,
            [
                {
                    "app": self._app,
                    "instance": instance,
                    **fields,
                    "title": "",
                    "business_id": "",
                    "link": "",
                    "state": RUNNING,
                    "source": "job",
                    "created_at": None,
                    "finished_at": None,
                    "known_at": at,
                    "changed_at": at,
                    "looks": 0,
                    "look_at": look_at,
                }
            ],
        )
        if job:
            # An event may have made the row before the job that created the approval told of it.
            await connection.execute(
                update(ApprovalRow)
                .where(
                    ApprovalRow.app == self._app,
                    ApprovalRow.instance == instance,
                    ApprovalRow.job == "",
                )
                .values({name: value for name, value in fields.items() if value})
            )
        await self._forget_before(connection, at - KEPT)
        made = await self._row(connection, instance)
        assert made is not None, "it was just inserted"
        return made

    async def _forget_before(self, connection: AsyncConnection, moment: datetime) -> None:
        """Delete some of those that ended before, with their tasks."""
        old = (
            select(ApprovalRow.instance)
            .where(
                ApprovalRow.app == self._app,
                ApprovalRow.state.in_([state for state, rank in _RANKS.items() if rank]),
                ApprovalRow.known_at < moment,
                ApprovalRow.changed_at < moment,
            )
            .limit(FORGOTTEN)
        )
        await connection.execute(
            delete(ApprovalRow).where(
                ApprovalRow.app == self._app, ApprovalRow.instance.in_(old.scalar_subquery())
            )
        )

    async def _record(
        self, connection: AsyncConnection, row: RowMapping, change: ApprovalChange, at: datetime
    ) -> Moved:
        known = {task["task"]: task for task in await self._tasks(connection, change.instance)}
        news = [task for task in change.tasks if _is_news(known.get(task.id), task)]
        state = change.state if change.state and _outranks(change.state, row["state"]) else None
        ended = _RANKS[state or row["state"]] > 0
        if has_ended(row):
            news = [task for task in news if task.state != RUNNING]  # nobody is asked any more
        left = _left_open(known, news, change) if ended else []
        if state == "deleted" or (change.source == "look" and change.state != RUNNING):
            news, left = [*news, *left], []
        await self._put_tasks(connection, change.instance, news, known)
        looks = row["looks"] + (change.source == "look")
        look_at: datetime | None = self._next_look(looks, at)
        if ended:
            look_at = self._last_look(row, at) if left else None
        values: dict[str, Any] = {
            "looks": looks,
            "look_at": look_at,
            **_details(row, change),
        }
        if state:
            values |= {"state": state, "source": change.source}
        if ended and not row["finished_at"]:
            values["finished_at"] = change.finished or at
        if state or news or values.keys() - {"looks", "look_at"}:
            values["changed_at"] = at
        await connection.execute(
            update(ApprovalRow)
            .where(ApprovalRow.app == self._app, ApprovalRow.instance == change.instance)
            .values(values)
        )
        after = await self._row(connection, change.instance)
        assert after is not None, "only those that ended long ago are deleted"
        await notices.write(connection, after, state, news, at)
        return Moved(after, state, news)

    def _last_look(self, row: RowMapping, at: datetime) -> datetime:
        """When to ask how its tasks ended, for an approval that has; `row` is from before."""
        known = row["look_at"] if has_ended(row) else None
        return known or self._next_look(0, at)

    async def _put_tasks(
        self,
        connection: AsyncConnection,
        instance: str,
        tasks: Sequence[ApprovalTask],
        known: dict[str, RowMapping],
    ) -> None:
        rows: list[dict[str, Any]] = []
        for task in tasks:
            before = known.get(task.id)
            rows.append(
                {
                    "app": self._app,
                    "instance": instance,
                    "task": task.id,
                    "user": task.user or (before["user"] if before else ""),
                    "state": task.state,
                    "since": (before["since"] if before else None) or task.since,
                    "ended_at": task.ended,
                }
            )
        await upsert(connection, ApprovalTaskRow, rows)

    def _next_look(self, looks: int, at: datetime) -> datetime:
        """When to ask for an approval that was heard of at a moment, after so many looks."""
        return at + self._looks[min(looks, len(self._looks) - 1)]

    async def _row(self, connection: AsyncConnection, instance: str) -> RowMapping | None:
        found = await connection.execute(
            self._select().where(ApprovalRow.__table__.c.instance == instance)
        )
        row: RowMapping | None = found.mappings().one_or_none()
        return row

    def _select(self) -> Select[Any]:
        row = ApprovalRow.__table__
        return select(row).where(row.c.app == self._app)

    async def _tasks(self, connection: AsyncConnection, instance: str) -> Sequence[RowMapping]:
        task = ApprovalTaskRow.__table__
        found = await connection.execute(
            select(task).where(task.c.app == self._app, task.c.instance == instance)
        )
        return found.mappings().all()


def has_ended(row: RowMapping) -> bool:
    """Whether the approval will not move any more, but for its deletion."""
    return _RANKS[row["state"]] > 0


def writer_of(app: str) -> str:
    """Whose transaction it is: approvals wait for each other, and not for a walk of the directory."""
    return f"approvals {app}"


def _outranks(state: str, known: str) -> bool:
    return _RANKS[state] > _RANKS[known]


def _is_news(known: RowMapping | None, task: ApprovalTask) -> bool:
    """Whether a task is new, or stands differently; what has ended does not run again.

    A decision may be told after the end of its approval, which left the task open.
    """
    if known is None:
        return True
    return _TASK_RANKS[task.state] > _TASK_RANKS[known["state"]]


def _left_open(
    known: dict[str, RowMapping], news: Sequence[ApprovalTask], change: ApprovalChange
) -> list[ApprovalTask]:
    """Tasks that an approval which has ended leaves open, as they are if nobody decided them.

    Whoever decided is told by an event of its own, which may come later.
    """
    closed = {task.id for task in news if task.state != RUNNING}
    left = [task for task in news if task.state == RUNNING]
    still = [
        ApprovalTask(id=row["task"], user=row["user"], state="running", since=row["since"])
        for row in known.values()
        if row["state"] == RUNNING and row["task"] not in closed
    ]
    return [
        ApprovalTask(
            id=task.id, user=task.user, state="cancelled", since=task.since, ended=change.finished
        )
        for task in {task.id: task for task in [*left, *still]}.values()
    ]


def _details(row: RowMapping, change: ApprovalChange) -> dict[str, Any]:
    """What is told for the first time of an approval beside its state."""
    details = {
        "template": change.template,
        "originator": change.originator,
        "title": change.title,
        "business_id": change.business_id,
        "link": change.link,
        "created_at": change.created,
    }
    return {name: value for name, value in details.items() if value and not row[name]}
