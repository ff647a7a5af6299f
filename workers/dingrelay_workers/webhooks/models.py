"""The tables of webhooks, beside that of the endpoints (`outbox/models.py`).

Notices that some endpoint takes are kept for some days, in the order in which they were passed on.
Each endpoint has a position in them; behind it stand the deliveries that are under way, of which
Redis holds the jobs. So an endpoint that is down for days costs Redis no more than a window.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Number, Utc


class NoticeRow(Base):
    """A notice that was passed on. Numbers grow in the order in which that was committed.

    Attributes:
        trace: in which it happened; "" for none.
    """

    __tablename__ = "notices"
    __table_args__ = (Index(None, "recorded_at"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    type: Mapped[str] = mapped_column(String(128))
    app: Mapped[str] = mapped_column(String(64))
    sender: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(Utc)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    recorded_at: Mapped[datetime] = mapped_column(Utc)
    trace: Mapped[str] = mapped_column(String(600), server_default=text("''"))


class DeliveryRow(Base):
    """A delivery that is under way.

    Attributes:
        notice: number of the notice.
        round: 0, or the number of the replay that it belongs to.
        job: id of its job.
        released_at: when it was made; three days later its next failure is the last one.
    """

    __tablename__ = "webhook_deliveries"

    endpoint: Mapped[str] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), primary_key=True
    )
    notice: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    job: Mapped[str] = mapped_column(String(36), unique=True)
    app: Mapped[str] = mapped_column(String(64))
    released_at: Mapped[datetime] = mapped_column(Utc)
