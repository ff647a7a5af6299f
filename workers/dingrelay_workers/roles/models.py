"""The table of the roles that people have."""

from datetime import datetime

from sqlalchemy import JSON, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base, Utc
from dingrelay_workers.database.person_columns import PersonColumns


class RoleRow(Base):
    """A role that a person has, or everyone in a department and those below it.

    Attributes:
        directory: the app in whose directory they are.
        subject: a userid, or ``department:`` and the id of one.
        apps: for which the role counts, as an API key has them; `lanes` as well.
    """

    __tablename__ = "roles"
    __people__ = PersonColumns(user="subject", others="directory role apps lanes")
    __table_args__ = (
        UniqueConstraint("directory", "subject", "role"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    directory: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(16))
    apps: Mapped[list[str]] = mapped_column(JSON)
    lanes: Mapped[list[str]] = mapped_column(JSON)
    given_at: Mapped[datetime] = mapped_column(Utc)
