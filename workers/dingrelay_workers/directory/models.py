"""The tables of the directory.

Rows of several apps lie side by side. What a run met carries the run's number (`met_in`, the highest
wins): a walk asks for those only that no newer run has met. What a row holds carries when it was read
(`order.py`): walks and events overlap, and the older of two reads may be written last.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    and_,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, JobId, Utc
from dingrelay_workers.database.person_columns import PersonColumns


class ChangeEvent(StrEnum):
    """A change of a person or a department.

    `GONE`: DingTalk does not know the person any more; they are `LEFT` once their run is closed.
    """

    ADDED = "added"
    CHANGED = "changed"
    GONE = "gone"
    LEFT = "left"
    REMOVED = "removed"


class DepartmentState(StrEnum):
    """State of a department in a walk."""

    PENDING = "pending"
    DONE = "done"
    VANISHED = "vanished"
    FAILED = "failed"


NEVER = text("0")
"""Before every read: a row of an earlier version."""


def _moment() -> Mapped[int]:
    return mapped_column(BigInteger, server_default=NEVER)


class DepartmentRow(Base):
    """A department. `fields` holds all fields ever read, in the names of the v2 API.

    `read_at` is the moment of the read that found it, or found it gone; `detailed_at` that of the
    read of its own answer, which alone has the details.
    """

    __tablename__ = "departments"
    __people__ = PersonColumns(within={"fields": ("**",)}, others="app name")
    __table_args__ = (Index(None, "app", "parent"),)

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None] = mapped_column(Text)
    fields: Mapped[dict[str, Any]] = mapped_column(JSON)
    met_in: Mapped[int]
    left_at: Mapped[datetime | None] = mapped_column(Utc)
    read_at: Mapped[int] = _moment()
    detailed_at: Mapped[int] = _moment()

    @classmethod
    def present(cls, app: str) -> ColumnElement[bool]:
        """The condition of an app's departments that exist."""
        return and_(cls.app == app, cls.left_at.is_(None))


class UserRow(Base):
    """A person. People who left stay, with `left_at` set and without memberships.

    Moments as for departments; `placed_at` is that of the read of all their departments.
    DingTalk may give a person another userid, and a userid to another person; the `unionid` stays
    (API §3.1), so each has one row. `mobile`, `email`, `org_email` and `job_number` are as `dingrelay_tasks.addresses` compares them.
    """

    __tablename__ = "users"
    __people__ = PersonColumns(
        user="userid",
        within={"fields": ("**",)},
        about="unionid name mobile email org_email job_number",
        others="app",
    )
    __table_args__ = (
        Index(None, "app", "mobile"),
        Index(None, "app", "email"),
        Index(None, "app", "org_email"),
        Index(None, "app", "job_number"),
        Index(None, "app", "name"),
        Index(None, "app", "unionid", unique=True),
    )

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    userid: Mapped[str] = mapped_column(Text, primary_key=True)
    unionid: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str | None] = mapped_column(Text)
    fields: Mapped[dict[str, Any]] = mapped_column(JSON)
    met_in: Mapped[int]
    left_at: Mapped[datetime | None] = mapped_column(Utc)
    read_at: Mapped[int] = _moment()
    detailed_at: Mapped[int] = _moment()
    placed_at: Mapped[int] = _moment()
    mobile: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    org_email: Mapped[str | None] = mapped_column(Text)
    job_number: Mapped[str | None] = mapped_column(Text)


class OmittedFieldRow(Base):
    """A field of a person that was known, and that a later answer left out (API §3.1).

    It was cleared, or the app may not see it any more: which one, the answers about others show.
    `listed`: it was a department's list of members, which need not hold what a user's own answer does.
    """

    __tablename__ = "omitted_fields"
    __people__ = PersonColumns(user="userid", others="app field")
    __table_args__ = (
        ForeignKeyConstraint(["app", "userid"], ["users.app", "users.userid"], ondelete="CASCADE"),
        Index(None, "app", "field", "listed", "read_at"),
    )

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    userid: Mapped[str] = mapped_column(Text, primary_key=True)
    field: Mapped[str] = mapped_column(String(64), primary_key=True)
    listed: Mapped[bool]
    read_at: Mapped[int] = mapped_column(BigInteger)


class MembershipRow(Base):
    """A person is a direct member of a department, with what holds in that department only.

    `met_in` is for workers of earlier versions.
    """

    __tablename__ = "memberships"
    __people__ = PersonColumns(user="userid", others="app")
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
    read_at: Mapped[int] = _moment()


class RunRow(Base):
    """A user-sync. `number` orders runs by when they were opened."""

    __tablename__ = "runs"
    __people__ = PersonColumns(others="app run scope")
    __table_args__ = (UniqueConstraint("app", "run"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    app: Mapped[str] = mapped_column(String(64))
    run: Mapped[str] = mapped_column(JobId)
    scope: Mapped[str] = mapped_column(String(16))
    opened_at: Mapped[datetime] = mapped_column(Utc)
    closed_at: Mapped[datetime | None] = mapped_column(Utc)
    calls: Mapped[int]
    users: Mapped[int | None]
    """How many people it met; known once it is closed."""


class RunDepartmentRow(Base):
    """A department that a run has to read. `parent` is the department that lists it."""

    __tablename__ = "run_departments"
    __people__ = PersonColumns(others="state")
    __table_args__ = (Index(None, "number", "parent"),)

    number: Mapped[int] = mapped_column(
        ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    department: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    calls: Mapped[int]


class ChangeRow(Base):
    """A change of a person found by a run; one row a run and person.

    `fields` names what has another value than before, for ``changed`` only.
    """

    __tablename__ = "changes"
    __people__ = PersonColumns(user="userid", others="app event fields", kept="90 days")
    __table_args__ = (Index(None, "app", "userid"),)

    number: Mapped[int] = mapped_column(
        ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    userid: Mapped[str] = mapped_column(Text, primary_key=True)
    app: Mapped[str] = mapped_column(String(64))
    event: Mapped[str] = mapped_column(String(16))
    fields: Mapped[list[str]] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(Utc)


@dataclass(slots=True)
class Change:
    """A change of a person or a department, with its fields if it only changed."""

    event: ChangeEvent
    fields: set[str] = field(default_factory=set[str])


Changes = dict[str, Change]
"""Change by userid."""
