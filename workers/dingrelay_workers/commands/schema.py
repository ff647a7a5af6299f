"""Migrating the database before something needs its tables."""

from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.directory.schema import upgrade


def migrate(settings: Settings) -> None:
    """Bring the directory's tables up to date; usually there is nothing to do.

    Raises:
        ServiceUnavailable: the database can't be reached, or refuses us.
        ModuleNotFoundError: its driver is not installed.
    """
    try:
        upgrade(settings.database)
    except SQLAlchemyError as error:
        raise unusable(error) from None


def unusable(error: SQLAlchemyError) -> ServiceUnavailable:
    """What to say of the database's error, whose text may hold the URL, and with it the password."""
    return ServiceUnavailable(
        f"DINGRELAY_DATABASE_URL: the database can't be used ({type(error).__name__})"
    )
