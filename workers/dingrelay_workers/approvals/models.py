"""The tables of approvals after their creation."""

from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, JobId, Utc
from dingrelay_workers.database.person_columns import PersonColumns


class ApprovalRow(Base):
    """An approval that is followed, or has ended.

    Attributes:
        instance: DingTalk's id of it.
        job: the job that created it; "" for one created elsewhere.
        sender: of the job.
        template: its process code.
        business_id: DingTalk's number of it, which people see.
        link: where a person can look at it.
        source: of the state: ``job`` (it was just created), ``event`` or ``look``.
        created_at: by DingTalk's clock, once known; else when it came into the table.
        known_at: when it came into the table, by Redis's clock.
        changed_at: when something of it last changed.
        looks: how often it was read from DingTalk.
        look_at: when to read it next if no event comes before; None once it and each of its tasks
            have ended.
    """

    __tablename__ = "approvals"
    __people__ = PersonColumns(
        user="originator",
        about="title",
        others="app instance job sender template business_id link state source",
        kept="90 days",
    )
    __table_args__ = (
        Index(None, "app", "state", "known_at"),
        Index(None, "app", "known_at"),
        Index(None, "known_at", "app", "instance"),
    )

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    instance: Mapped[str] = mapped_column(String(128), primary_key=True)
    job: Mapped[str] = mapped_column(JobId)
    sender: Mapped[str] = mapped_column(String(64))
    template: Mapped[str] = mapped_column(String(128))
    originator: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(Text)
    business_id: Mapped[str] = mapped_column(String(64))
    link: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime | None] = mapped_column(Utc)
    finished_at: Mapped[datetime | None] = mapped_column(Utc)
    known_at: Mapped[datetime] = mapped_column(Utc)
    changed_at: Mapped[datetime] = mapped_column(Utc)
    looks: Mapped[int] = mapped_column(Integer)
    look_at: Mapped[datetime | None] = mapped_column(Utc)


class ApprovalTaskRow(Base):
    """The decision of one person.

    Attributes:
        task: DingTalk's number of it.
        user: who decides.
        since: when the task was created.
        ended_at: when that ended; None while it runs, and where it is unknown.
    """

    __tablename__ = "approval_tasks"
    __people__ = PersonColumns(user="user", others="app instance task state", kept="90 days")
    __table_args__ = (
        ForeignKeyConstraint(
            ["app", "instance"], ["approvals.app", "approvals.instance"], ondelete="CASCADE"
        ),
        Index(None, "app", "user", "state"),
    )

    app: Mapped[str] = mapped_column(String(64), primary_key=True)
    instance: Mapped[str] = mapped_column(String(128), primary_key=True)
    task: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime | None] = mapped_column(Utc)
    ended_at: Mapped[datetime | None] = mapped_column(Utc)
