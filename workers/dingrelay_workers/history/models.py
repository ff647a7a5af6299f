"""The tables of jobs that ended, and of their recipients."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKeyConstraint, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_tasks.person_fields import IN_PATH
from dingrelay_workers.database.base import Base, JobId, Utc
from dingrelay_workers.database.person_columns import PersonColumns


def _of_some(name: str, column: str, condition: str) -> Index:
    """The index of a column that most jobs have no use for."""
    columns = column, "created_at", "job"
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


class JobRow(Base):
    """A job that ended, as of its latest end.

    Attributes:
        key: the idempotency key; "" for none.
        ids: DingTalk's ids of what the job did: task ids, an approval's instance, request ids.
        summary: one line, without the job's text; of a call its path, which may name a person.
        content: what it asked for, as JSON; None unless `[history] content` is on.
    """

    __tablename__ = "job_history"
    __people__ = PersonColumns(
        within={"summary": [IN_PATH]},
        about="key content",
        others="job kind app sender lane state error_class error_code ids",
        kept="90 days",
    )
    __table_args__ = (
        Index("ix_job_history_created_at", "created_at", "job"),
        Index("ix_job_history_app", "app", "created_at", "job"),
        Index("ix_job_history_sender", "sender", "created_at", "job"),
        Index("ix_job_history_kind", "kind", "created_at", "job"),
        _of_some("ix_job_history_state", "state", "state <> 'done'"),
        _of_some("ix_job_history_code", "error_code", "error_code <> ''"),
        Index("ix_job_history_ended_at", "ended_at"),
    )

    job: Mapped[str] = mapped_column(JobId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    app: Mapped[str] = mapped_column(String(64))
    sender: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(256))
    lane: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(Utc)
    started_at: Mapped[datetime | None] = mapped_column(Utc)
    ended_at: Mapped[datetime] = mapped_column(Utc)
    attempts: Mapped[int] = mapped_column(Integer)
    throttles: Mapped[int] = mapped_column(Integer)
    error_class: Mapped[str] = mapped_column(String(32))
    error_code: Mapped[str] = mapped_column(String(128))
    ids: Mapped[list[str]] = mapped_column(JSON)
    summary: Mapped[str] = mapped_column(Text)
    content: Mapped[str | None] = mapped_column(Text)


UNRESOLVED = "unresolved"
"""Outcome of an address that belongs to no user."""


class RecipientRow(Base):
    """The outcome of a job for one person.

    Attributes:
        user: their userid; an address where the outcome is `UNRESOLVED`: a job number may look like a userid.
    """

    __tablename__ = "job_recipients"
    __people__ = PersonColumns(user="user", others="job outcome", kept="90 days")
    __table_args__ = (
        ForeignKeyConstraint(["job"], ["job_history.job"], ondelete="CASCADE"),
        Index("ix_job_recipients_user", "user", "at", "job"),
    )

    job: Mapped[str] = mapped_column(JobId, primary_key=True)
    user: Mapped[str] = mapped_column(String(128), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(Utc)


class QuarterRow(Base):
    """A quarter of an hour of the whole fleet; the present one grows until it is over.

    Attributes:
        at: when it begins.
        calls: that left to DingTalk.
        waiting: jobs that waited, the most of all looks.
        done: jobs that ended well.
        failed: jobs that failed for good, or of which DingTalk's answer was lost.
    """

    __tablename__ = "quarters"
    __people__ = PersonColumns(kept="8 days")

    at: Mapped[datetime] = mapped_column(Utc, primary_key=True)
    calls: Mapped[int] = mapped_column(Integer)
    waiting: Mapped[int] = mapped_column(Integer)
    done: Mapped[int] = mapped_column(Integer)
    failed: Mapped[int] = mapped_column(Integer)
