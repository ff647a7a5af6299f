"""The SQL database of the directory."""

from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.settings import Settings
from dingrelay_workers.database.schema import newest_revision, revision
from dingrelay_workers.doctor.check_result import CheckResult


def check_database(settings: Settings) -> CheckResult:
    """Whether it can be reached and its tables are up to date."""
    try:
        current = revision(settings.database)
    except ModuleNotFoundError as error:
        advice = "pip install 'dingrelay[postgres]'"
        return CheckResult("database", "failed", f"{error.name} is not installed", advice)
    except (SQLAlchemyError, OSError) as error:
        return CheckResult(
            "database",
            "unreachable",
            f"no connection ({type(error).__name__})",
            "start it, or correct DINGRELAY_DATABASE_URL",
        )
    kind = settings.database.partition(":")[0]
    newest = newest_revision()
    if current is not None and current > newest:
        found = f"{kind}, revision {current}: a newer release's, this one knows {newest}"
        return CheckResult("database", "warning", found, "upgrade dingrelay here, too")
    if current != newest:
        found = f"{kind}, revision {current or 'none'} instead of {newest}"
        return CheckResult("database", "warning", found, "start a worker: it migrates the tables")
    return CheckResult("database", "ok", f"{kind}, revision {current}")
