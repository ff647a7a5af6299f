"""The outbox's table for SQLAlchemy, and how a session writes into it."""

from typing import Protocol

from sqlalchemy import BigInteger, Integer, MetaData, String, Text
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dingrelay_producers.outbox.rows import TABLE, new_row
from dingrelay_tasks.contract import Contract

metadata = MetaData()
"""Has the outbox's table only: alembic takes it beside the application's own."""
_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts in no other type
_TEXT = Text().with_variant(LONGTEXT, "mysql", "mariadb")  # their TEXT ends at 64 KB


class _Base(DeclarativeBase):
    metadata = metadata


class OutboxRow(_Base):
    """A job that is to be enqueued; once it is, its row is deleted.

    Attributes:
        number: the order in which rows are relayed. A database may use one again.
        id: unique over all databases, see `new_row`.
        kind: of the job.
        job: its fields as JSON.
        written_at: ms since the epoch, by the application's clock.
        trace: the one in which it was written (`tracing.spans`), which its job belongs to; NULL or empty for none.
        tried_at: when a relay first gave it to Redis, ms by Redis's clock; NULL: Redis never had it.
        leased_until: until when other relays leave it to the one that has it, ms by Redis's clock.
        refused: why it is not tried any more, in English, and what a reader's language needs (`sentence.to_text`);
            NULL while it is.
    """

    __tablename__ = TABLE
    __table_args__ = {"mysql_engine": "InnoDB"}  # noqa: RUF012 - SQLAlchemy reads it

    number: Mapped[int] = mapped_column(_NUMBER, primary_key=True)
    id: Mapped[str] = mapped_column(String(36))
    kind: Mapped[str] = mapped_column(String(64))
    job: Mapped[str] = mapped_column(_TEXT)
    written_at: Mapped[int] = mapped_column(BigInteger)
    trace: Mapped[str | None] = mapped_column(_TEXT)
    tried_at: Mapped[int | None] = mapped_column(BigInteger)
    leased_until: Mapped[int | None] = mapped_column(BigInteger)
    refused: Mapped[str | None] = mapped_column(_TEXT)


class _Session(Protocol):
    """A session: of SQLAlchemy, blocking or for asyncio, scoped or SQLModel's."""

    def add(self, instance: object) -> None: ...


def send(session: _Session, job: Contract) -> str:
    """Write a job into the outbox in the session's transaction: it is enqueued if that is committed.

    Does no I/O, so it is not awaited with an `AsyncSession` either: the session writes the row as it writes its
    other objects, when it flushes.

    Returns:
        The id that the job will have, for `Client.job`.

    Raises:
        ContractError, InvalidArgument, SettingsError: as `new_row`; nothing is written.
    """
    job_id, row = new_row(job)
    session.add(OutboxRow(**row))
    return job_id
