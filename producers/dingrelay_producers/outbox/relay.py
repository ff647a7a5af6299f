"""Relays the outbox: reads rows in their order, enqueues their jobs, deletes the rows.

A round is four steps, each a statement of its own: read the first rows, claim them, enqueue, delete. No lock is held
between them, so no transaction of the business waits for Redis. The process may die between any two of them, and two
relays may be at the same rows: the row's id is the idempotency key, by which a job that was enqueued is recognised. Each
relay enqueues the rows before a row first, so the order holds as well.

The key is known as long as the job's record lives. A row that was given to Redis longer ago, and is still there, may
have been a job that is forgotten by now: it is refused, for a person to decide. A relay that was frozen in a round may
have read rows that another one has enqueued since: a round has a lease in Redis, and what comes later is not accepted.
"""

import logging
import threading
import uuid
from collections.abc import Sequence
from typing import Self

from redis import Redis
from sqlalchemy import ColumnElement, Engine, Executable, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dingrelay_producers import running
from dingrelay_producers.client.connection import ClientConnection
from dingrelay_producers.client.sending import Sending
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.outbox.rows import read_job
from dingrelay_producers.outbox.tables import OutboxRow
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Draft
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.sentence import en, to_text, writable

BATCH = 100
"""Rows of a round: some milliseconds of Redis's time."""
LEASE_MS = 10_000
"""Longer than a round takes. Spares two relays the same work; where it is overrun both do it, and nothing else happens."""
ROUND_MS = 10_000
"""After which a round enqueues nothing: far less than a record lives, by which its rows are known."""
INTERVAL = 1.0
"""Seconds between two looks at a table that was empty, or while a server is away."""
PERHAPS_ENQUEUED = en(
    "it may have been enqueued before, longer ago than records of jobs live: look for its job, then retry or discard it"
)

log = logging.getLogger("dingrelay.outbox")


class Relay:
    """Enqueues what an outbox has, in a thread or in the caller's own.

    Any number of relays may run on one table.

    Args:
        engine: of the database with the table; a blocking one.
        settings: of dingrelay; from the environment if not given.
        interval: seconds between two looks at an empty table.
    """

    def __init__(
        self, engine: Engine, settings: Settings | None = None, *, interval: float = INTERVAL
    ) -> None:
        settings = settings or running.settings()
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        name = uuid.uuid4().hex
        self._lease = keys.outbox_round(name), name
        self._connection = ClientConnection(settings, fence=self._lease)
        self._sending = Sending(settings)
        self._record_ttl_ms = int(settings.record_ttl * 1000)
        self._interval = interval
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def relay(self) -> int:
        """Relay the first rows, `BATCH` at most; how many have left the queue, enqueued or refused.

        Raises:
            ServiceUnavailable: Redis is away, or it took longer than its lease; the rows stay.
            SQLAlchemyError: the database is away, or has no such table.
        """
        # Before the rows are read: none of them is enqueued by another relay and forgotten within the lease.
        now = self._connection.redis_call(self._begin)
        waiting = select(OutboxRow).where(OutboxRow.refused.is_(None))
        with Session(self._engine) as session:
            rows = session.scalars(waiting.order_by(OutboxRow.number).limit(BATCH)).all()
        if not rows:
            return 0
        # A later end is of a clock before a failover of Redis.
        if any(now < (row.leased_until or 0) <= now + LEASE_MS for row in rows):
            return 0
        tried_at = func.coalesce(OutboxRow.tried_at, now)
        claim = update(OutboxRow).values(tried_at=tried_at, leased_until=now + LEASE_MS)
        self._execute(claim.where(_are(rows)))
        refusals = self._enqueue(rows, now)
        accepted = [row for row in rows if row.id not in refusals]
        self._execute(delete(OutboxRow).where(_are(accepted)))
        for row in rows:
            if refusal := refusals.get(row.id):
                log.error("outbox: %s %s is refused: %s", row.kind, row.id, refusal)
                # A table of any character set holds ASCII.
                refused = to_text(writable(refusal, "ascii"))
                self._execute(update(OutboxRow).where(_are([row])).values(refused=refused))
        return len(rows)

    def run(self) -> None:
        """Relay until `end` or `stop` is called. Waits for a database or a Redis that is away."""
        trouble = ""
        while not self._stopping.is_set():
            relayed, problem = 0, ""
            try:
                relayed = self.relay()
            except (ServiceUnavailable, SQLAlchemyError) as error:
                # The text of SQLAlchemy's own error has the statement, the driver's has what went wrong.
                problem = str(getattr(error, "orig", error)).partition("\n")[0]
            if problem != trouble:
                log.warning("outbox: %s", problem or "goes on")
                trouble = problem
            if relayed < BATCH:
                self._stopping.wait(self._interval)

    def start(self) -> Self:
        """Run in a thread of this process; call it after a fork, if there is one."""
        self._thread = threading.Thread(target=self.run, name="dingrelay-outbox", daemon=True)
        self._thread.start()
        return self

    def end(self, *_: object) -> None:
        """Have `run` return after the present round; it may be the handler of a signal."""
        self._stopping.set()

    def stop(self) -> None:
        """Wait for the thread to finish its round, and close the connection to Redis."""
        self.end()
        if self._thread:
            self._thread.join()
        self._connection.close()

    def _begin(self, redis: Redis) -> int:
        """Take the lease of a round; the moment, in ms of Redis's clock."""
        redis.set(*self._lease, px=ROUND_MS)
        seconds, micros = redis.time()
        return seconds * 1000 + micros // 1000

    def _execute(self, change: Executable) -> None:
        with self._engine.connect() as connection:
            connection.execute(change)

    def _enqueue(self, rows: Sequence[OutboxRow], now: int) -> dict[str, str]:
        """Enqueue the rows' jobs, each under its row's id; why some are refused, by id."""
        refusals: dict[str, str] = {}
        jobs: dict[str, Contract] = {}
        for row in rows:
            if row.tried_at is not None and row.tried_at + self._record_ttl_ms < now + ROUND_MS:
                refusals[row.id] = PERHAPS_ENQUEUED
                continue
            try:
                jobs[row.id] = read_job(row.kind, row.job)
            except ContractError as error:
                refusals[row.id] = str(error)
        traces = [row.trace or "" for row in rows if row.id in jobs]
        batch = self._sending.gather(jobs.values(), keys=list(jobs), traces=traces)
        outcomes = self._connection.carry_out(self._sending.accept_all(batch))
        for id_, outcome in zip(jobs, outcomes, strict=True):
            if not isinstance(outcome, Draft):
                refusals[id_] = str(outcome)
        return refusals


def _are(rows: Sequence[OutboxRow]) -> ColumnElement[bool]:
    """Matches these rows: by number, which is indexed, and by id, since a number may be another row's by now."""
    numbers, ids = [row.number for row in rows], [row.id for row in rows]
    return OutboxRow.number.in_(numbers) & OutboxRow.id.in_(ids)
