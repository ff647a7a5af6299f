"""The table of approvals: what is reported of them, written where it is news, with notices of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.settings.sections import LOOKS
from dingrelay_tasks.context import ApprovalChange, ApprovalTask
from dingrelay_workers.approvals.merge import RUNNING, is_ended, merge
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.database.database import Database, change_rows, insert_missing, upsert
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice, id_of

KEPT = timedelta(days=90)
"""How long an approval that has ended is kept, since it last changed."""
FORGOTTEN = 20
"""Old ones that are deleted at most when one is added, so that no transaction is long."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Result of a change.

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

        If events made it before the job was known that created the approval, it gets the job, and
        what was published without it is published again, under the same ids.

        Args:
            instance: its id.
            job: the job that created it; empty for none of ours.
            template: its process code.
            originator: the user who asked for it.
            sender: of the job.
            at: now.
            look_now: DingTalk is asked for a new one at once, and not after the first delay.
        """
        status = await self.find(instance)
        if status is not None and (status["job"] or not job):
            return status
        fields = {"job": job, "sender": sender, "template": template, "originator": originator}
        new = {
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
            "look_at": at if look_now else at + self._looks[0],
        }
        async with self._database.write(writer_of(self._app)) as connection:
            await insert_missing(connection, ApprovalRow, [new])
            await self._forget_before(connection, at - KEPT)
            row = await self._row(connection, instance)
            assert row is not None, "it was just inserted"
            if job and not row["job"]:
                return await self._adopt(connection, row, fields, at)
            return row

    async def due_now(self, at: datetime) -> list[str]:
        """Make the next look-up of every approval due; those that have one."""
        due = (ApprovalRow.app == self._app) & ApprovalRow.look_at.is_not(None)
        async with self._database.write(writer_of(self._app)) as connection:
            rows = await connection.execute(select(ApprovalRow.instance).where(due))
            instances = list(rows.scalars())
            await change_rows(connection, ApprovalRow, due, look_at=at)
        return instances

    async def forget(self, instance: str) -> None:
        """Delete an approval with its tasks: it is followed for another app."""
        async with self._database.write(writer_of(self._app)) as connection:
            await connection.execute(
                delete(ApprovalRow).where(
                    ApprovalRow.app == self._app, ApprovalRow.instance == instance
                )
            )

    async def record(self, change: ApprovalChange, *, at: datetime) -> Moved | None:
        """Write what was reported, where it is news; None if the approval is not in the table."""
        async with self._database.write(writer_of(self._app)) as connection:
            row = await self._row(connection, change.instance)
            if row is None:
                return None
            tasks_before = await self._tasks(connection, change.instance)
            state, news, values = merge(row, tasks_before, change, at=at, looks=self._looks)
            tasks = [
                {
                    "app": self._app,
                    "instance": change.instance,
                    "task": task.id,
                    "user": task.user,
                    "state": task.state,
                    "since": task.since,
                    "ended_at": task.ended,
                }
                for task in news
            ]
            await upsert(connection, ApprovalTaskRow, tasks)
            after = await self._changed(connection, row, values)
            await _write_notices(connection, after, state, news, at)
            return Moved(after, state, news)

    async def _adopt(
        self, connection: AsyncConnection, row: RowMapping, fields: Mapping[str, str], at: datetime
    ) -> RowMapping:
        """Give a row the job that created the approval."""
        missing = {name: value for name, value in fields.items() if value and not row[name]}
        adopted = await self._changed(connection, row, missing)
        tasks = [
            ApprovalTask(id=task["task"], user=task["user"], state=task["state"])
            for task in await self._tasks(connection, row["instance"])
        ]
        state = row["state"] if is_ended(row["state"]) else None
        await _write_notices(connection, adopted, state, tasks, at)
        return adopted

    async def _changed(
        self, connection: AsyncConnection, row: RowMapping, values: Mapping[str, Any]
    ) -> RowMapping:
        """A row with other values."""
        of_approval = ApprovalRow.app == self._app, ApprovalRow.instance == row["instance"]
        await change_rows(connection, ApprovalRow, *of_approval, **values)
        changed = await self._row(connection, row["instance"])
        assert changed is not None, "no other transaction writes it now"
        return changed

    async def _forget_before(self, connection: AsyncConnection, moment: datetime) -> None:
        """Delete some of those that ended before, with their tasks."""
        old = (
            select(ApprovalRow.instance)
            .where(
                ApprovalRow.app == self._app,
                ApprovalRow.state != RUNNING,
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

    async def _row(self, connection: AsyncConnection, instance: str) -> RowMapping | None:
        row = ApprovalRow.__table__.c
        rows = await connection.execute(
            select(ApprovalRow.__table__).where(row.app == self._app, row.instance == instance)
        )
        return rows.mappings().one_or_none()

    async def _tasks(self, connection: AsyncConnection, instance: str) -> Sequence[RowMapping]:
        task = ApprovalTaskRow.__table__
        rows = await connection.execute(
            select(task).where(task.c.app == self._app, task.c.instance == instance)
        )
        return rows.mappings().all()


def writer_of(app: str) -> str:
    """Name of the app's writer lock for approvals: they wait for each other, and not for a walk of the directory."""
    return f"approvals {app}"


_SHOWN = ("instance", "job", "template", "originator", "title", "business_id", "link", "state")
"""Columns that say which approval it is; what stands in its form is not kept."""


async def _write_notices(
    connection: AsyncConnection,
    row: RowMapping,
    state: str | None,
    tasks: Sequence[ApprovalTask],
    at: datetime,
) -> None:
    """Write notices of an approval whose row is written already.

    Args:
        connection: of the transaction that wrote it.
        row: as it is now.
        state: the state that is new; None if it is the one from before.
        tasks: those that are new or stand differently.
        at: when that was received.
    """
    notices = [_notice(row, "task", at, task.id, task.state, task=_task(task)) for task in tasks]
    if state:
        notices.append(_notice(row, state, at))
    await outbox.write(connection, notices, amend=True)


def _notice(row: RowMapping, event: str, at: datetime, *which: str, **more: Any) -> Notice:
    return Notice(
        # The same for each app of an organisation, and where a crash or its job has it written again.
        id=id_of("approval", row["instance"], event, *which),
        type=f"approval.{event}",
        app=row["app"],
        at=at,
        sender=row["sender"],
        kind="approval-create" if row["job"] else "",
        data={
            **{name: row[name] for name in _SHOWN},
            "finished_at": row["finished_at"] and row["finished_at"].isoformat(),
            **more,
        },
    )


def _task(task: ApprovalTask) -> dict[str, Any]:
    return {"id": task.id, "user": task.user, "state": task.state}
