"""Which releases may use the tables as they are."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_workers.database.base import Base


class SchemaReaders(Base):
    """One row, which migrations rewrite that take away what older code needs.

    0.2.0 knows nothing of it: such a migration also writes its own revision into ``alembic_version``.

    Attributes:
        oldest: the newest revision that the oldest code knows which still works with the tables.
    """

    __tablename__ = "schema_readers"

    oldest: Mapped[str] = mapped_column(String(32), primary_key=True)
