"""The table of the audit."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Number, Utc
from dingrelay_workers.database.person_columns import PersonColumns
from dingrelay_workers.nouns import NOUNS

SOUGHT = ("actor", "action", "object")
"""Columns by which rows are looked up, each with an index in the order of the list."""

OF_PEOPLE = [audited.kind for noun in NOUNS for audited in noun.audited if audited.is_person]
"""Kinds of objects whose id is a userid."""
NAMED_IN_CHANGES = ("user", "subject", "owner")
"""Fields of `before` and `after` that hold the userid of a person."""


class AuditRow(Base):
    """A change. It holds no secret, no text of a message and no mobile number.

    Attributes:
        actor: as `Actor.id`: a userid where the door is the console; `name`, `role`, `door`, `request` and `reason` are the others of `Actor`.
        app: the app of the object, and `lane` its lane; "" for none.
        action: such as ``start``.
        kind: of the object, such as ``campaign``.
        object: its id: a userid where the kind is in `OF_PEOPLE`.
        before: what the change replaces; None for nothing.
        after: what it leads to; None for nothing, or where only its end shows that.
    """

    __tablename__ = "audit"
    __people__ = PersonColumns(
        user="actor object",
        within={"before": NAMED_IN_CHANGES, "after": NAMED_IN_CHANGES},
        about="name",
        others="door role app lane action kind reason request",
        kept="400 days",
    )
    __table_args__ = (
        Index("ix_audit_at", "at", "number"),
        *(Index(f"ix_audit_{name}", name, "at", "number") for name in SOUGHT),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(Number, primary_key=True)
    at: Mapped[datetime] = mapped_column(Utc)
    actor: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    door: Mapped[str] = mapped_column(String(16))
    role: Mapped[str] = mapped_column(String(64))
    app: Mapped[str] = mapped_column(String(64))
    lane: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(32))
    object: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    reason: Mapped[str] = mapped_column(Text)
    request: Mapped[str] = mapped_column(String(128))
