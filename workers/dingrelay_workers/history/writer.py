"""Keeps the history: reads the ends of jobs, writes them to SQL.

An end is read again until its page is passed, and that is after the commit. So after any crash each
end is written at least once, and a second time changes nothing.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, keys
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.status import json_object, recipients
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.database.database import Database, chunks, upsert
from dingrelay_workers.database.schema import upgrade
from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.maintenance.clean_up import CleanUp
from dingrelay_workers.maintenance.leader import LeaderParts, Now, Work
from dingrelay_workers.metrics import HISTORY_MISSED, HISTORY_WRITTEN
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.endings import WEBHOOKS, EndedRecord, Ending, Endings, read_records
from dingrelay_workers.outbox.models import EndpointRow

WRITER = "history"
"""Name of the writer lock: only the leader of history writes these rows."""
ROWS = 5_000
"""Recipients in one statement."""
SLICE = 5_000
"""Jobs that are deleted in one transaction, so that other writers do not wait long for it."""


EndedJob = tuple[dict[str, Any], dict[str, str]]
"""A job as the history keeps it: the columns of `JobRow`; and person → what became of the job for them."""


async def write(database: Database, jobs: Sequence[EndedJob]) -> None:
    """Keep these jobs, each as of its latest end."""
    # One that was requeued may have ended twice since the last time.
    latest = {row["job"]: (row, recipients) for row, recipients in jobs}
    async with database.write(WRITER) as connection:
        # The later of two ends is kept, in whatever order they are written.
        ended = [row for row, _ in latest.values()]
        await upsert(connection, JobRow, ended, latest_by="ended_at")
        rows = [
            {"job": name, "user": user, "outcome": outcome, "at": row["ended_at"]}
            for name, (row, recipients) in latest.items()
            for user, outcome in recipients.items()
        ]
        for batch in chunks(rows, ROWS):
            await upsert(connection, RecipientRow, batch, latest_by="at")


async def note_outcome(database: Database, job: str, users: Sequence[str], outcome: str) -> bool:
    """Note what became of a job for these people after its end, or for all if none is named; False: it is not kept."""
    now = clock.now()
    async with database.write(WRITER) as connection:
        if await connection.scalar(select(JobRow.job).where(JobRow.job == job)) is None:
            return False
        rows = [{"job": job, "user": user, "outcome": outcome, "at": now} for user in users]
        await upsert(connection, RecipientRow, rows, latest_by="at")
        if not users:
            everyone = update(RecipientRow).where(RecipientRow.job == job)
            await connection.execute(everyone.values(outcome=outcome, at=now))
    return True


def for_jobs(database: Database, _: Redis, __: Settings) -> partial[Coroutine[Any, Any, bool]]:
    """Notes outcomes, for the jobs of a worker."""
    return partial(note_outcome, database)


async def clean_up(work: CleanUp) -> None:
    """Delete the jobs that ended too long ago."""
    if days := work.settings.history.days:
        before = work.now() - timedelta(days=days)
        while await delete_before(work.database, before) == SLICE:
            work.step()


async def delete_before(database: Database, moment: datetime) -> int:
    """Delete a slice of the jobs that ended before; how many there were."""
    old = select(JobRow.job).where(JobRow.ended_at < moment).order_by(JobRow.ended_at).limit(SLICE)
    async with database.write(WRITER) as connection:
        jobs = list((await connection.scalars(old)).all())
        for batch in chunks(jobs):
            await connection.execute(delete(RecipientRow).where(RecipientRow.job.in_(batch)))
            await connection.execute(delete(JobRow).where(JobRow.job.in_(batch)))
    return len(jobs)


MOST_RECIPIENTS = 1_000
"""People of one job who are listed one by one."""
_ID = "_id"
"""How the fields of results end that hold DingTalk's ids: task_id, request_id, instance_id …"""


def ended_job(record: EndedRecord, *, content: bool) -> EndedJob:
    """The rows of a job.

    What its record does not tell, or not in a readable way, is left out: one job must not keep all
    others from being kept.

    Args:
        record: as it was when the job ended.
        content: whether what the job asked for is kept.
    """
    ending = record.ending
    read = _Reader(record.fields)
    error = read.json("error")
    job = read.json("payload")
    ended = moment_of(ending.at)
    row: dict[str, Any] = {
        "job": ending.id,
        "kind": ending.kind,
        "app": ending.app,
        "sender": ending.sender,
        "key": _text(job.get("idempotency_key"), 256),
        "lane": read.text("lane")[:16],
        "state": ending.state,
        "created_at": read.moment("created") or ended,
        "started_at": read.moment("started"),
        "ended_at": ended,
        "attempts": read.number("attempts"),
        "throttles": read.number("throttles"),
        "error_class": _text(error.get("class"), 32),
        "error_code": _text(error.get("code"), 128),
        "ids": dingtalk_ids(read.json("result")),
        "summary": read.text("summary"),
        "content": read.text("payload") or None if content else None,
    }
    by_user = recipients(ending.kind, ending.state, job, record.fields)
    if len(by_user) > MOST_RECIPIENTS:
        by_user = {}
    return row, {_text(user, 128): was for user, was in by_user.items() if _is_userid(user)}


def _is_userid(value: object) -> bool:
    """A malformed job may name anything; a text that no database takes is no userid."""
    return isinstance(value, str) and lenient.text(value) == value


def dingtalk_ids(result: Mapping[str, Any]) -> list[str]:
    """DingTalk's ids in a result: task ids, an approval's instance, request ids."""
    calls: Any = result.get("calls")
    answers: list[Any] = [result, *(calls if isinstance(calls, list) else [])]
    return [
        str(value)
        for answer in answers
        if isinstance(answer, dict)
        for name, value in answer.items()
        if name.endswith(_ID) and value
    ]


class _Reader:
    """The fields of a record; what can't be read is as if it were not there."""

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        # PostgreSQL takes no NUL in texts.
        return self._fields.get(name.encode(), b"").decode(errors="replace").replace("\0", "")

    def number(self, name: str) -> int:
        try:
            return int(self._fields.get(name.encode(), b"0"))
        except ValueError:
            return 0

    def moment(self, name: str) -> datetime | None:
        milliseconds = self.number(name)
        return moment_of(milliseconds) if milliseconds else None

    def json(self, name: str) -> dict[str, Any]:
        return json_object(self._fields.get(name.encode(), b""))


def _text(value: object, longest: int) -> str:
    return lenient.text(value)[:longest] if isinstance(value, str) else ""


READER = "history"
AT_ONCE = 500
"""Ends that one transaction writes."""
BUSY = 0.0
"""Seconds until the next page while there are more."""

log = get_logger("dingrelay.history")


class Writer(Work):
    """Writes the ends of jobs, as long as its worker leads.

    Args:
        redis: where the ends are read.
        database: where they are written.
        settings: for how long, and how much.
    """

    database_away = SQLAlchemyError

    def __init__(self, redis: Redis, database: Database, settings: Settings) -> None:
        super().__init__()
        self._redis = redis
        self._database = database
        self._settings = settings
        self._endings = Endings(redis, READER)
        self._ready = False

    async def tick(self) -> float | None:
        """Write a page; seconds until the next one, None if there is none."""
        page = await self._endings.read(AT_ONCE)
        reported = [ending for ending in page.endings if _is_kept(ending)]
        if reported:
            await self._write(reported)
            # `doctor` detects by this that the database was restored from a backup.
            newest = max(ending.at for ending in reported)
            await self._redis.set(keys.HISTORY_WRITTEN, newest, px=keys.ENDINGS_TTL_MS)
        awaited = [WEBHOOKS] if page.last and await self._has_webhooks() else []
        if await self._endings.pass_(page, awaited=awaited) and page.missed:
            HISTORY_MISSED.inc(page.missed)
            log.error("history_missed", jobs=page.missed)
        self._step()
        if len(page.endings) == AT_ONCE:
            return BUSY
        return None

    async def _write(self, endings: Sequence[Ending]) -> None:
        if not self._ready:
            await asyncio.to_thread(upgrade, self._settings.database)
            self._ready = True
        content = self._settings.history.content
        records = await read_records(self._redis, endings, with_payload=lambda _: True)
        await write(self._database, [ended_job(record, content=content) for record in records])
        HISTORY_WRITTEN.inc(len(records))

    async def _has_webhooks(self) -> bool:
        """Whether endpoints hear of ends: on a new Redis their worker may come later."""
        if not self._ready and not await self._database.has(EndpointRow):
            return False
        async with self._database.read() as connection:
            return await outbox.has_readers(connection)


def of_leader(parts: LeaderParts, _: Now) -> Writer:
    """The writer of a worker that leads."""
    return Writer(parts.records.redis, parts.database(), parts.settings)


def _is_kept(ending: Ending) -> bool:
    """Whether jobs of this kind are reported, and so kept."""
    kind = KINDS.get(ending.kind)
    return kind is not None and kind.is_reported
