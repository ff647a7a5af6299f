"""Whether Redis and the database are of the same time: one restored from a backup is older."""

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_sync
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.schema import sync_engine
from dingrelay_workers.doctor.causes import CheckResult
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.store.backups import Compared

CHECK = "backups"


def check_backups(settings: Settings, *, settle: bool = False) -> CheckResult:
    """Have each noun compare what Redis knows of it with what the database does.

    Args:
        settings: of Redis and database.
        settle: as of `Compared`.
    """
    engine = sync_engine(settings.database)
    try:
        with open_sync(settings.redis_address) as redis:
            servers = Compared(redis, engine, settings, settle)
            for noun in NOUNS:
                for part in noun.backups:
                    if difference := noun.load(part)(servers):
                        return CheckResult(CHECK, *difference)
    except (SQLAlchemyError, RedisError, OSError, ValueError) as error:
        return CheckResult(CHECK, "unreachable", en("not compared ({})", type(error).__name__))
    finally:
        engine.dispose()
    if not settings.history.days:
        return CheckResult(CHECK, "ok", "not compared: there is no history")
    return CheckResult(CHECK, "ok", "Redis and the database are of the same time")
