"""The table of API keys. No secret is in it, only what a secret can be checked against."""

from datetime import datetime

from sqlalchemy import JSON, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Utc
from dingrelay_workers.database.person_columns import PersonColumns


class ApiKeyRow(Base):
    """An API key, live or not.

    Attributes:
        digest: of its secret, as `secret.digest` makes it.
        old_secrets: the digests of the secrets before it → until when each is taken, ISO 8601.
        owner: the userid of its person; "" for none.
        issuers: the humans who were shown a secret of it that may be taken still, as `Actor.hands`.
    """

    __tablename__ = "api_keys"
    __people__ = PersonColumns(
        user="owner",
        users="issuers",
        others="id name scopes apps lanes sender rate digest old_secrets",
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    apps: Mapped[list[str]] = mapped_column(JSON)
    lanes: Mapped[list[str]] = mapped_column(JSON)
    sender: Mapped[str] = mapped_column(String(64))
    rate: Mapped[str | None] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64))
    old_secrets: Mapped[dict[str, str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Utc)
    expires_at: Mapped[datetime | None] = mapped_column(Utc)
    revoked_at: Mapped[datetime | None] = mapped_column(Utc)
    used_at: Mapped[datetime | None] = mapped_column(Utc)
    owner: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    issuers: Mapped[list[str]] = mapped_column(JSON)
