"""The tables of campaigns.

A recipient is in exactly one chunk, and a chunk is one call. A recipient's outcome is the chunk's
unless an outcome row differs. So a broadcast to a million is ten thousand rows.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    and_,
    false,
    func,
    select,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage, CampaignState
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.sentence import en, from_parts
from dingrelay_workers.database.base import Base, Said, Utc
from dingrelay_workers.database.person_columns import PersonColumns

State = CampaignState
LANE: Lane = "bulk"
"""Lane of campaigns."""
HIDDEN = frozenset({State.CREATING, State.DELETING})
"""States of campaigns that are not there yet, or no more."""


NOT_READY = en("is a draft: make it ready first, which checks it and freezes its people")
"""Why a draft is not sent."""


class ChunkState(StrEnum):
    """State of a chunk. A queued one has a job, whose record is the truth until it is settled."""

    PENDING = "pending"
    QUEUED = "queued"
    SETTLED = "settled"


class OutcomeKind(StrEnum):
    """The outcome of a recipient that differs from the chunk's."""

    DUPLICATE = "duplicate"
    DAILY_CAP = "daily_cap"
    UNKNOWN_USER = "unknown_user"
    OUT_OF_SCOPE = "out_of_scope"
    INVALID = "invalid"
    FORBIDDEN = "forbidden"
    FAILED = "failed"
    UNVERIFIED = "unverified"
    KEPT = "kept"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


LEFT_OUT = frozenset(
    {
        OutcomeKind.DUPLICATE,
        OutcomeKind.DAILY_CAP,
        OutcomeKind.UNKNOWN_USER,
        OutcomeKind.OUT_OF_SCOPE,
    }
)
"""Outcomes of people who were in no call."""


class CampaignRow(Base):
    """A campaign, from its first word to its report: what is sent, how, and how far it has come.

    Attributes:
        state: where it is `draft`, `stage` says whether it is still written.
        message: DingTalk's ``msg`` object; its texts may hold ``{name}`` fields.
        start_at: not before this moment.
        quiet: the hours of Beijing's day in which nothing is sent, such as ``22:00-08:00``; or "".
        rate: recipients a minute at most; None for DingTalk's limit only.
        weight: its share beside its sender's other campaigns that run.
        error_share: share of failed recipients at which it pauses itself.
        sender: as for a job; "" if not given.
        reason: for the pause, in one sentence.
        recipients: how many people, each once.
        duplicates: rows of the source with a recipient already read.
        malformed: rows of the source that were skipped since they name no person, can't be read, or lack a value.
        unmatched: rows that were skipped since they do not match one person.
        excluded: people who were named and taken out.
        checked: what its check found when it was made, in figures; None of one of 0.2.0, and where Redis was away.
        named: until its start, the people that its check names, and the rows that name none.
        chunks: how many it has, numbered from 0; 0 while it is written. Rows of a greater number are left over.
        people_digest: of them, and of what is filled in for each; "" while it is written, and of one of 0.2.0.
        content: a `DraftContent`, as it was written; None of one of 0.2.0.
        file: the uploaded list of people, as it came.
        version: one more with each change of `content` or `file`.
        updated_by: who changed it last; "" of one of 0.2.0.
        lease: of the process that writes its chunks; None for none.
        lease_at: when that process was last alive, in seconds by the database's clock.
        admitted_at: when the leader found that it may send, by Redis's clock: None before its first call.
        settled: chunks that have ended. The counts of people below belong to these.
        accepted: people in calls that DingTalk took.
        left_out: people left out since DingTalk would silently have dropped the message.
        failed: people whose call was refused, or whose outcome is unknown.
        calls: calls that DingTalk took.
        writers: all who have changed it: none of them may approve it; None of one of 0.2.0.
        testers: people who got a test of it.
        issuers: of the keys and links by which it was written or submitted: they may have acted themselves.
        recent_people: of the latest people whose outcome is known, how many there are; see
            `pace.Latest`.
        recent_failed: how many of these failed.
        rate_credit: people that `rate` let it send to at `rate_at`; below zero, people it is ahead.
        rate_at: by Redis's clock.
        index_bits: 2 ** bits buckets of `IndexRow` hold its people; None if none do.
        trace: in which it was made; "" for none.
    """

    __tablename__ = "campaigns"
    __people__ = PersonColumns(
        user="created_by updated_by",
        users="writers testers issuers",
        within={"named": ("absent", "skipped.*.users")},
        about="content file file_name",
        others="id app name state reason message quiet sender people_digest checked trace lease",
    )
    __table_args__ = (Index(None, "state"), Index(None, "created_at", "id"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    app: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Said)
    message: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Utc)
    start_at: Mapped[datetime | None] = mapped_column(Utc)
    started_at: Mapped[datetime | None] = mapped_column(Utc)
    ended_at: Mapped[datetime | None] = mapped_column(Utc)
    quiet: Mapped[str] = mapped_column(String(16))
    rate: Mapped[int | None]
    weight: Mapped[int]
    error_share: Mapped[float] = mapped_column(Float)
    sender: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    recipients: Mapped[int]
    duplicates: Mapped[int]
    malformed: Mapped[int]
    unmatched: Mapped[int] = mapped_column(server_default="0")
    excluded: Mapped[int] = mapped_column(server_default="0")
    people_digest: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    checked: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    named: Mapped[dict[str, list[Any]] | None] = mapped_column(JSON(none_as_null=True))
    chunks: Mapped[int]
    settled: Mapped[int]
    accepted: Mapped[int]
    left_out: Mapped[int]
    failed: Mapped[int]
    calls: Mapped[int]
    recent_people: Mapped[float] = mapped_column(Float, server_default="0")
    recent_failed: Mapped[float] = mapped_column(Float, server_default="0")
    rate_credit: Mapped[float] = mapped_column(Float, server_default="0")
    rate_at: Mapped[datetime | None] = mapped_column(Utc)
    index_bits: Mapped[int | None]
    trace: Mapped[str] = mapped_column(String(600), server_default=text("''"))
    writers: Mapped[list[str] | None] = mapped_column(JSON)
    content: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    file: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    file_name: Mapped[str] = mapped_column(Text, server_default=text("''"))
    version: Mapped[int] = mapped_column(server_default="1")
    created_by: Mapped[str] = mapped_column(Text, server_default=text("''"))
    updated_by: Mapped[str] = mapped_column(Text, server_default=text("''"))
    updated_at: Mapped[datetime | None] = mapped_column(Utc)
    lease: Mapped[str | None] = mapped_column(String(36))
    lease_at: Mapped[int | None] = mapped_column(BigInteger)
    admitted_at: Mapped[datetime | None] = mapped_column(Utc)
    testers: Mapped[list[str] | None] = mapped_column(JSON)
    issuers: Mapped[list[str] | None] = mapped_column(JSON)

    @property
    def stage(self) -> CampaignStage:
        """Position in its life, at the present time."""
        if self.state == State.DRAFT:
            return CampaignStage.READY if self.chunks else CampaignStage.DRAFT
        if self.state == State.RUNNING and self.start_at and self.start_at > clock.now():
            return CampaignStage.SCHEDULED
        return CampaignStage(self.state)

    @classmethod
    def in_stage(cls, stage: CampaignStage) -> ColumnElement[bool]:
        """The condition of a `stage`, at the present time."""
        is_coming = func.coalesce(cls.start_at > clock.now(), false())
        match stage:
            case CampaignStage.DRAFT | CampaignStage.READY:
                frozen = cls.chunks > 0
                is_ready = stage == CampaignStage.READY
                return and_(cls.state == State.DRAFT, frozen if is_ready else ~frozen)
            case CampaignStage.SCHEDULED:
                return and_(cls.state == State.RUNNING, is_coming)
            case CampaignStage.RUNNING:
                return and_(cls.state == State.RUNNING, ~is_coming)
            case _:
                return cls.state == State(stage.value)

    @property
    def preview(self) -> dict[str, Any] | None:
        """Result of the check when the campaign was made."""
        people = {**(self.named or {}), "skipped": self.skipped}
        return self.checked and {**from_parts(self.checked), **people}

    @property
    def skipped(self) -> list[Any]:
        """Some of the rows that were skipped."""
        return [from_parts(row) for row in (self.named or {}).get("skipped", [])]

    @property
    def causes(self) -> dict[str, int]:
        """Causes of its skipped rows, counted."""
        return dict((self.checked or {}).get("causes", {}))

    @property
    def file_rows(self) -> int:
        """Rows of the file that named its people."""
        return int((self.checked or {}).get("file_rows", 0))

    @property
    def chunk_size(self) -> int:
        """People in one of its chunks, about."""
        return -(-self.recipients // max(1, self.chunks))


class ChunkRow(Base):
    """Up to 100 recipients of one message: one call.

    Attributes:
        generation: how often it was released. Each release has a job of its own, and what is known
            of one is never taken for another's.
        users: their ids, separated by commas, which no id holds.
        message: the ``msg`` object of this chunk where its fields are filled in; None for the
            campaign's own.
        task_id: DingTalk's id of the call; None if it took none.
        called_at: when it took it.
        accepted: people in it, if it was taken.
        error: class, code, message and hint of what ended it otherwise.
        ambiguous: the call was repeated after an answer was lost: DingTalk dropped the copies of
            recipients that had it.
        recalled_at: when DingTalk took the message back.
        confirmed_at: when its delivery was last queried. The counts of people below are from that
            report; None before.
        delivered: people who have the message.
        read: those of them reported to have read it.
        unread: those of them reported not to have.
        unread_users: their ids, separated by commas, for as long as `[campaigns] unread_days` says.
    """

    __tablename__ = "campaign_chunks"
    __people__ = PersonColumns(
        users="users unread_users",
        about="message",
        others="campaign state error",
        kept="400 days",
    )
    __table_args__ = (
        Index(None, "campaign", "state", "number"),
        Index(
            "ix_campaign_chunks_unread",
            "confirmed_at",
            sqlite_where=text("unread_users is not null"),
            postgresql_where=text("unread_users is not null"),
        ),
    )

    campaign: Mapped[str] = mapped_column(
        ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16))
    generation: Mapped[int] = mapped_column(server_default="0")
    size: Mapped[int]
    users: Mapped[str] = mapped_column(Text)
    message: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    task_id: Mapped[int | None] = mapped_column(BigInteger)
    called_at: Mapped[datetime | None] = mapped_column(Utc)
    recalled_at: Mapped[datetime | None] = mapped_column(Utc)
    accepted: Mapped[int]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    ambiguous: Mapped[bool]
    confirmed_at: Mapped[datetime | None] = mapped_column(Utc)
    delivered: Mapped[int | None]
    read: Mapped[int | None]
    unread: Mapped[int | None]
    unread_users: Mapped[str | None] = mapped_column(Text)

    @classmethod
    def in_state(cls, campaign: str, state: ChunkState) -> ColumnElement[bool]:
        """The condition of a campaign's chunks in a state."""
        return and_(cls.campaign == campaign, cls.state == state)

    @classmethod
    def of(cls, campaign: str) -> ColumnElement[bool]:
        """The condition of a campaign's chunks; a row of a greater number is left over of an earlier version."""
        count = select(CampaignRow.chunks).where(CampaignRow.id == campaign).scalar_subquery()
        return and_(cls.campaign == campaign, cls.number < count)


class ReadRow(Base):
    """People who, as DingTalk reported in a quarter of an hour for the first time, have read a campaign.

    Attributes:
        at: when the quarter begins.
    """

    __tablename__ = "campaign_reads"
    __people__ = PersonColumns(others="campaign")

    campaign: Mapped[str] = mapped_column(
        ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True
    )
    at: Mapped[datetime] = mapped_column(Utc, primary_key=True)
    read: Mapped[int]


class OutcomeRow(Base):
    """A recipient whose chunk's call was not accepted or not delivered, and why."""

    __tablename__ = "campaign_outcomes"
    __people__ = PersonColumns(user="userid", others="campaign outcome reason", kept="400 days")
    __table_args__ = (Index(None, "campaign", "chunk"),)

    campaign: Mapped[str] = mapped_column(
        ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True
    )
    userid: Mapped[str] = mapped_column(String(64), primary_key=True)
    chunk: Mapped[int]
    outcome: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Said)


class MalformedRow(Base):
    """A row of the source that named no person, and was skipped; see `Malformed`.

    Attributes:
        number: from 1, in the order in which they were read.
        written: what stands where the row should name a person.
        users: people that it may mean, or that the problem names, separated by commas.
        outcome: as that of `Malformed`.
    """

    __tablename__ = "campaign_malformed"
    __people__ = PersonColumns(users="users", about="written problem", others="campaign outcome")

    campaign: Mapped[str] = mapped_column(
        ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line: Mapped[int]
    pasted: Mapped[bool]
    written: Mapped[str] = mapped_column(Text)
    problem: Mapped[str] = mapped_column(Said)
    users: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(String(16), server_default="malformed")

    @classmethod
    def of(cls, campaign: str) -> ColumnElement[bool]:
        """The condition of a campaign's rows; one of a greater number is left over of an earlier version."""
        skipped = select(CampaignRow.malformed + CampaignRow.unmatched)
        count = skipped.where(CampaignRow.id == campaign).scalar_subquery()
        return and_(cls.campaign == campaign, cls.number <= count)


class IndexRow(Base):
    """Some of a campaign's people, and in which chunk each of them is; see `people_index`.

    Attributes:
        bucket: the people whose checksums begin with these bits.
        part: a large campaign is indexed part by part.
        entries: the checksums, and then as many numbers of chunks.
    """

    __tablename__ = "campaign_index"
    __people__ = PersonColumns(about="entries", others="campaign", kept="400 days")

    campaign: Mapped[str] = mapped_column(
        ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True
    )
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    entries: Mapped[bytes] = mapped_column(LargeBinary)


class PictureRow(Base):
    """A picture that was uploaded for a campaign.

    Attributes:
        media_id: DingTalk's id of it.
    """

    __tablename__ = "campaign_pictures"
    __people__ = PersonColumns(others="media_id app name content")
    __table_args__ = (Index(None, "app", "at"),)

    media_id: Mapped[str] = mapped_column(Text, primary_key=True)
    app: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(Utc)


class TemplateRow(Base):
    """A message that is kept under a name.

    Attributes:
        message: DingTalk's ``msg`` object, complete or not.
    """

    __tablename__ = "message_templates"
    __people__ = PersonColumns(others="id app sender name message")
    __table_args__ = (UniqueConstraint("app", "sender", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    app: Mapped[str] = mapped_column(String(64))
    sender: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    message: Mapped[dict[str, Any]] = mapped_column(JSON)


class ReviewRow(Base):
    """The approval of a campaign by a second person, asked for or decided.

    Attributes:
        digest: of what is to be approved: text, people, time, app.
        decision: ``approved``, ``rejected``, or "" until then.
    """

    __tablename__ = "campaign_reviews"
    __people__ = PersonColumns(user="asked_by decided_by", others="campaign digest decision reason")

    campaign: Mapped[str] = mapped_column(
        ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[str] = mapped_column(String(64))
    asked_by: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(Utc)
    decision: Mapped[str] = mapped_column(String(16))
    decided_by: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(Utc)
    reason: Mapped[str] = mapped_column(Text)
