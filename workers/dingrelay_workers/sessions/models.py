"""The tables of who has signed in to the console. No token is in them, only digests."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Said, Utc
from dingrelay_workers.database.person_columns import PersonColumns


class ConsoleLinkRow(Base):
    """A link with which a person signs in once.

    Attributes:
        directory: the app in whose directory the person is; "" of one that no directory has.
        issuers: who made it, as `Actor.hands`; as well of a session that began with it.
    """

    __tablename__ = "console_links"
    __people__ = PersonColumns(
        user="user", users="issuers", others="digest directory role", kept="10 minutes"
    )

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(Text)
    directory: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    issuers: Mapped[list[str]] = mapped_column(JSON)
    ends_at: Mapped[datetime] = mapped_column(Utc)


class ConsoleSessionRow(Base):
    """A person who has signed in.

    Attributes:
        directory: the app in whose directory the person is; "" of one who came by a link and is in none.
        role: that the link gave; "" of one who has those of the directory.
        roles: digest of what these allow, as long as the session lives.
        forms: that it has sent.
        used_at: the last time that a page was asked for, to the minute.
    """

    __tablename__ = "console_sessions"
    __people__ = PersonColumns(
        user="user", users="issuers", others="digest directory role roles", kept="12 hours"
    )

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(Text)
    directory: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    role: Mapped[str] = mapped_column(String(16))
    roles: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    issuers: Mapped[list[str]] = mapped_column(JSON)
    forms: Mapped[int] = mapped_column(server_default=text("0"))
    begun_at: Mapped[datetime] = mapped_column(Utc)
    used_at: Mapped[datetime] = mapped_column(Utc)


class ConsoleFormRow(Base):
    """A form that was sent.

    Attributes:
        location: where it led; none while it is carried out, "" where it was answered by a page of its own.
        said: what it has done, for the page to which it led.
        state: a digest of the state in which it left what it changed; "" of a form that is good for any.
    """

    __tablename__ = "console_forms"
    __people__ = PersonColumns(
        about="said", others="digest session location state", kept="12 hours"
    )

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    session: Mapped[str] = mapped_column(
        ForeignKey("console_sessions.digest", ondelete="CASCADE"), index=True
    )
    at: Mapped[datetime] = mapped_column(Utc)
    location: Mapped[str | None] = mapped_column(Text)
    said: Mapped[str] = mapped_column(Said, server_default=text("''"))
    state: Mapped[str] = mapped_column(String(64), server_default=text("''"))
