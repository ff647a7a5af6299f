"""The table of notices that are not passed on yet, and who is to hear of any."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Number, Utc


class OutboxRow(Base):
    """A notice, until the relay has passed it on.

    Attributes:
        trace: in which it happened; "" for none.
    """

    __tablename__ = "outbox"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: Mapped[int] = mapped_column(Number, primary_key=True)
    id: Mapped[str] = mapped_column(String(64))
    type: Mapped[str] = mapped_column(String(128))
    app: Mapped[str] = mapped_column(String(64))
    sender: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(Utc)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    trace: Mapped[str] = mapped_column(String(600), server_default=text("''"))


class EndpointRow(Base):
    """Who is told of what: a webhook's endpoint.

    Attributes:
        url: where to: ``https://…`` or ``celery://QUEUE/TASK``.
        types: patterns of `notice_types.matches`.
        apps: those whose notices it takes; empty for all. So are `senders` and `kinds`.
        state: `enabled`, `paused` or `disabled`.
        reason: why it is in that state, if it is not enabled.
        secrets: which ones sign, the newest first, without the secrets themselves.
        position: number of the last notice for which deliveries were released.
        skipped: deliveries of notices up to this one are not carried out any more.
        replay_round: how many replays there were.
        replay_position: number of the last notice that the replay under way has released.
        replay_until: number of the last one that it will; it is over once that is reached.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    types: Mapped[list[str]] = mapped_column(JSON)
    apps: Mapped[list[str]] = mapped_column(JSON)
    senders: Mapped[list[str]] = mapped_column(JSON)
    kinds: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    secrets: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    position: Mapped[int] = mapped_column(BigInteger)
    skipped: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    replay_round: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    replay_position: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    replay_until: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(Utc)
    changed_at: Mapped[datetime] = mapped_column(Utc)
