"""The base of every table."""

from datetime import UTC, datetime
from typing import ClassVar

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, MetaData, String, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase

from dingrelay_tasks.sentence import from_text, to_text
from dingrelay_workers.database.person_columns import PersonColumns


class Utc(TypeDecorator[datetime]):
    """A moment in UTC, also on databases that forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """With its zone."""
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


Number = BigInteger().with_variant(Integer(), "sqlite")
"""Type of row numbers that grow by hundreds a second. SQLite counts with INTEGER only, which is as large."""


JobId = String(64).with_variant(String(255), "postgresql")
"""The id of a job, which a Celery client may choose (`store/wakeup.py`). SQLite minds no length, so its
tables are as they were made."""


class Base(DeclarativeBase):
    """Base of the tables.

    Attributes:
        __people__: where people stand in the table.
    """

    __people__: ClassVar[PersonColumns]

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Said(TypeDecorator[str]):
    """Text for people, which may be a `Sentence`; plain text is read as it is."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: D102
        return value if value is None else to_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: D102
        return value if value is None else from_text(value)
