"""The tables of who has signed in to the console. No token is in them, only digests."""

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Utc


class ConsoleLinkRow(Base):
    """A link with which a person signs in once."""

    __tablename__ = "console_links"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(Text)
    ends_at: Mapped[datetime] = mapped_column(Utc)


class ConsoleSessionRow(Base):
    """A person who has signed in.

    Attributes:
        used_at: the last time that a page was asked for, to the minute.
    """

    __tablename__ = "console_sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(Text)
    begun_at: Mapped[datetime] = mapped_column(Utc)
    used_at: Mapped[datetime] = mapped_column(Utc)
