"""The tables of webhooks: endpoints, notices, and a row for each delivery."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Number, Said, Utc
from dingrelay_workers.database.person_columns import PersonColumns


class EndpointRow(Base):
    """An endpoint: where notices go, which ones, and its health.

    Attributes:
        url: ``https://…`` or ``celery://QUEUE/TASK``.
        types: patterns of `notice_types.matches`.
        apps: those whose notices it takes, and targets of jobs to robots; empty for all. So are `senders` and `kinds`.
        state: `enabled`, `paused` or `disabled`.
        reason: why it is in that state, if it is not enabled.
        secrets: which ones sign, the newest first, without the secrets themselves.
        enabled_at: when it was added or last resumed: no failure counts from before.
        failures: consecutive ones, from `failing_since` to `failed_at`; `last_failure` is a code.
        breaker: how often in a row its breaker opened; 0: it is closed.
        retry_at: until then no delivery begins.
        taken_at: when it accepted the last notice.
    """

    __tablename__ = "webhook_endpoints"
    __people__ = PersonColumns(
        others="id name url types apps senders kinds state reason secrets last_failure"
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    types: Mapped[list[str]] = mapped_column(JSON)
    apps: Mapped[list[str]] = mapped_column(JSON)
    senders: Mapped[list[str]] = mapped_column(JSON)
    kinds: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Said)
    secrets: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Utc)
    changed_at: Mapped[datetime] = mapped_column(Utc)
    enabled_at: Mapped[datetime] = mapped_column(Utc)
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failing_since: Mapped[datetime | None] = mapped_column(Utc)
    failed_at: Mapped[datetime | None] = mapped_column(Utc)
    last_failure: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    breaker: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    retry_at: Mapped[datetime | None] = mapped_column(Utc)
    taken_at: Mapped[datetime | None] = mapped_column(Utc)


class NoticeRow(Base):
    """An event for subscribers, stored once for all endpoints. Kept for some days, for delivery and replay.

    Attributes:
        target: of a job to robots, such as ``group:oncall``; "" for none.
        trace: in which it happened; "" for none.
    """

    __tablename__ = "notices"
    __people__ = PersonColumns(
        within={"data": ("userid", "originator", "task.user", "event.**")},
        others="id type app sender kind target trace",
        kept="7 days",
    )
    __table_args__ = (Index(None, "recorded_at"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    type: Mapped[str] = mapped_column(String(128))
    app: Mapped[str] = mapped_column(String(64))
    sender: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(72), server_default=text("''"))
    at: Mapped[datetime] = mapped_column(Utc)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    recorded_at: Mapped[datetime] = mapped_column(Utc)
    trace: Mapped[str] = mapped_column(String(600), server_default=text("''"))


class DeliveryRow(Base):
    """The delivery of a notice to an endpoint, written with the notice; it goes with the notice.

    No foreign key names the endpoint: its removal must not fail the transaction that
    reports something. What is left of it is never claimed.

    Attributes:
        notice: number of the notice.
        state: `pending`; `delivered`; `dead`: refused for days by an endpoint that accepts others;
            `skipped` when the endpoint was resumed. A test is `test`, then `tested`.
        due_at: not before; None: at once.
        locked_until: a leader has it until then.
        attempts: that were made since it was written or replayed.
        failed_at: when the first of them failed.
        code: what the last attempt ended with; `reason` is a sentence, `status` of HTTP or 0.
    """

    __tablename__ = "webhook_deliveries"
    __people__ = PersonColumns(others="endpoint state code reason")
    __table_args__ = (
        Index(None, "notice"),
        # One for each question of the leader, of what is not over only.
        Index(
            "ix_webhook_deliveries_pending",
            "endpoint",
            "notice",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "ix_webhook_deliveries_dead",
            "endpoint",
            "notice",
            sqlite_where=text("state = 'dead'"),
            postgresql_where=text("state = 'dead'"),
        ),
        Index(
            "ix_webhook_deliveries_test",
            "endpoint",
            sqlite_where=text("state = 'test'"),
            postgresql_where=text("state = 'test'"),
        ),
    )

    endpoint: Mapped[str] = mapped_column(String(16), primary_key=True)
    notice: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("notices.number", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )
    state: Mapped[str] = mapped_column(String(16))
    due_at: Mapped[datetime | None] = mapped_column(Utc)
    locked_until: Mapped[datetime | None] = mapped_column(Utc)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failed_at: Mapped[datetime | None] = mapped_column(Utc)
    code: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    reason: Mapped[str] = mapped_column(Said, server_default=text("''"))
    status: Mapped[int] = mapped_column(Integer, server_default=text("0"))
