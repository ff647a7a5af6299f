"""The tables of the directory.

Rows of several apps lie side by side. What a walk met carries the walk's number (`met_in`, the
highest wins): a walk takes away only what no newer one has met, so overlapping walks and events
between them never undo each other.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Utc


class Event(StrEnum):
    """What happened to a person.

    `GONE`: DingTalk does not know them any more; they are `LEFT` once their run is closed.
    """

    ADDED = "added"
    CHANGED = "changed"
    GONE = "gone"
    LEFT = "left"


class State(StrEnum):
    """Where a department of a walk stands."""

    PENDING = "pending"
    DONE = "done"
    VANISHED = "vanished"
    FAILED = "failed"


class DepartmentRow(Base):
    """A department. `fields` holds all that was ever told of it, in the names of the v2 API."""

    __tablename__ = "departments"
    __table_args__ = (Index(None, "app", "parent"),)

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None] = mapped_column(Text)
    fields: Mapped[dict[str, Any]] = mapped_column(JSON)
    met_in: Mapped[int]
    left_at: Mapped[datetime | None] = mapped_column(Utc)


class UserRow(Base):
    """A person. Whoever left stays, with `left_at` set and without memberships."""

    __tablename__ = "users"

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    userid: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str | None] = mapped_column(Text)
    fields: Mapped[dict[str, Any]] = mapped_column(JSON)
    met_in: Mapped[int]
    left_at: Mapped[datetime | None] = mapped_column(Utc)


class MembershipRow(Base):
    """A person is a direct member of a department, with what holds in that department only."""

    __tablename__ = "memberships"
    __table_args__ = (
        ForeignKeyConstraint(
            ["app", "department"], ["departments.app", "departments.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["app", "userid"], ["users.app", "users.userid"], ondelete="CASCADE"),
        Index(None, "app", "userid"),
    )

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    department: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    userid: Mapped[str] = mapped_column(Text, primary_key=True)
    leader: Mapped[bool | None]
    dept_order: Mapped[int | None] = mapped_column(BigInteger)
    met_in: Mapped[int]


class RunRow(Base):
    """A user-sync. `number` orders runs by when they were opened."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint("app", "run"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    app: Mapped[str] = mapped_column(String(64))
    run: Mapped[str] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(String(16))
    opened_at: Mapped[datetime] = mapped_column(Utc)
    closed_at: Mapped[datetime | None] = mapped_column(Utc)
    calls: Mapped[int]
    users: Mapped[int | None]
    """How many people it met; known once it is closed."""


class RunDepartmentRow(Base):
    """A department that a run has to read. `parent` is the one that told of it."""

    __tablename__ = "run_departments"
    __table_args__ = (Index(None, "number", "parent"),)

    number: Mapped[int] = mapped_column(
        ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    department: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    calls: Mapped[int]


class ChangeRow(Base):
    """What a run found out about a person; one row a run and person.

    `fields` names what has another value than before, for ``changed`` only.
    """

    __tablename__ = "changes"
    __table_args__ = (Index(None, "app", "userid"),)

    number: Mapped[int] = mapped_column(
        ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    userid: Mapped[str] = mapped_column(Text, primary_key=True)
    app: Mapped[str] = mapped_column(String(64))
    event: Mapped[str] = mapped_column(String(16))
    fields: Mapped[list[str]] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(Utc)
