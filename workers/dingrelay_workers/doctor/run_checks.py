"""All checks, in the order in which one stands on the other."""

import asyncio
import errno
import os
import shutil
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.installation import how_to_add
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.settings.apps import App
from dingrelay_producers.settings.robots import missing_webhooks
from dingrelay_producers.tracing import export
from dingrelay_tasks.sentence import en
from dingrelay_workers import preflight
from dingrelay_workers.database.database import async_url
from dingrelay_workers.database.errors import refuse_missing
from dingrelay_workers.database.schema import newest_revision, revision, sync_engine
from dingrelay_workers.doctor.backups import check_backups
from dingrelay_workers.doctor.broker import check_broker, check_refused, check_workers
from dingrelay_workers.doctor.causes import CheckResult, cause
from dingrelay_workers.doctor.dingtalk import check_dingtalk
from dingrelay_workers.doctor.redis_server import check_redis


async def run_checks(*, settle_ended: bool = False) -> list[CheckResult]:
    """Run the checks; with broken settings there is nothing more to look at.

    `settle_ended` as `settle` of `check_backups`.
    """
    results = check_spelling()
    try:
        settings = Settings.load()
    except SettingsError as error:
        return [*results, CheckResult("settings", "failed", str(error), "set or correct it")]
    results.append(_check_settings(settings))
    if settings.robots or settings.groups:
        results.append(_robots(settings))
    servers, redis_writes = await _check_servers(settings, settle_ended=settle_ended)
    results += servers
    results += await check_dingtalk(settings, redis_writes=redis_writes)
    if traces := await asyncio.to_thread(check_traces):
        results.append(traces)
    return results


async def _check_servers(
    settings: Settings, *, settle_ended: bool
) -> tuple[list[CheckResult], bool]:
    """The results of the checks of the servers, and whether Redis takes writes."""
    redis = await asyncio.to_thread(check_redis, settings)
    results = [*redis]
    redis_answers = len(redis) > 1
    redis_writes = redis_answers and redis[-1].verdict == "ok"
    if redis_answers or settings.broker != settings.redis:
        broker = await asyncio.to_thread(check_broker, settings)
        results.append(broker)
        if broker.verdict == "ok":
            results.append(await asyncio.to_thread(check_workers, settings))
            if refused := await asyncio.to_thread(check_refused, settings):
                results.append(refused)
    database = await asyncio.to_thread(check_database, settings)
    results.append(database)
    # Also where its tables are old: a backup may be of the release before.
    if redis_answers and database.verdict in {"ok", "warning"}:
        results.append(await asyncio.to_thread(check_backups, settings, settle=settle_ended))
    return results, redis_writes


def check_spelling() -> list[CheckResult]:
    """A warning of each variable that is no setting, but nearly the name of one."""
    fields = Settings.model_fields.items()
    variables = {
        str(field.validation_alias or f"DINGRELAY_{name.upper()}") for name, field in fields
    }
    variables |= {f"DINGTALK_{name.upper()}" for name in App.model_fields}
    variables |= {"DINGRELAY_CONFIG", "DINGTALK_ROBOT"}
    results: list[CheckResult] = []
    for name in sorted(os.environ.keys() | dotenv_values(".env").keys()):
        # The name of an app or a file may follow.
        spelled = any(name == variable or name.startswith(f"{variable}_") for variable in variables)
        is_misspelled = name.startswith(("DINGRELAY_", "DINGTALK_")) and not spelled
        if is_misspelled and (near := get_close_matches(name, variables, n=1, cutoff=NEARLY)):
            finding, advice = en("{} is no setting", name), en("did you mean {}?", near[0])
            results.append(CheckResult("settings", "warning", finding, advice))
    return results


NEARLY = 0.85
"""How alike two names are of which one is taken for a slip of the other."""


def _check_settings(settings: Settings) -> CheckResult:
    try:
        preflight.check(settings)
    except SettingsError as error:
        return CheckResult("settings", "failed", str(error), "correct it in DINGRELAY_CONFIG")
    if settings.env == "production" and not settings.flower_password.get_secret_value():
        return CheckResult(
            "settings",
            "warning",
            "env=production, and no password for Flower",
            "set DINGRELAY_FLOWER_USER and DINGRELAY_FLOWER_PASSWORD",
        )
    return CheckResult("settings", "ok", f"env={settings.env}")


def _robots(settings: Settings) -> CheckResult:
    """The robots of the settings, and the groups that they post to."""
    groups = [f"{name} ({', '.join(group.robots)})" for name, group in settings.groups.items()]
    robots = ", ".join(sorted(settings.robots))
    if missing := missing_webhooks(settings.robots, settings.groups):
        finding = en("not set here: {}", ", ".join(missing))
        return CheckResult("robots", "warning", finding, "the workers need it: set it there")
    return CheckResult("robots", "ok", en("{}; groups: {}", robots, ", ".join(groups) or "-"))


TRACES_TIMEOUT = 3.0
"""Seconds for the collector to answer."""


def check_traces() -> CheckResult | None:
    """Whether the collector takes spans; None if traces are off."""
    if not export.wanted():
        return None
    if problem := export.problem():
        return CheckResult("traces", "warning", problem, "see the page on traces in the guide")
    if "otlp" not in export.exporters():
        return CheckResult("traces", "ok", "are printed")
    from dingrelay_producers.tracing import provider  # noqa: PLC0415 - it loads the SDK

    try:
        is_accepted = provider.accepts_spans(TRACES_TIMEOUT)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a variable of theirs
        finding = en("OTEL_* can't be used ({})", type(error).__name__)
        return CheckResult("traces", "warning", finding, "correct it")
    if not is_accepted:
        finding = en("the collector does not take them: they are lost, and jobs go on")
        return CheckResult(
            "traces", "warning", finding, "start it, or correct OTEL_EXPORTER_OTLP_*"
        )
    return CheckResult("traces", "ok", "the collector takes them")


TRIAL = "CREATE TEMPORARY TABLE dingrelay_doctor ON COMMIT DROP AS SELECT repeat('x', 100000)"


def _has_folder(url: str) -> bool:
    """Whether the workers could create the file of this database, if it is one."""
    return Path(async_url(url).database or "").absolute().parent.is_dir()


def check_database(settings: Settings) -> CheckResult:
    """Whether it can be reached and its tables are up to date."""
    try:
        if _has_folder(settings.database):
            refuse_missing(settings.database)  # SQLite would create it
        current = revision(settings.database)
    except ServiceUnavailable as error:
        return CheckResult(
            "database", "warning", str(error), "start a worker: it migrates the tables"
        )
    except SettingsError as error:
        return CheckResult("database", "failed", str(error), "correct it")
    except ModuleNotFoundError as error:
        problem = en("{} is not installed", error.name)
        return CheckResult("database", "failed", problem, how_to_add("postgres"))
    except (SQLAlchemyError, OSError) as error:
        return cause("database", error, "DINGRELAY_DATABASE_URL") or CheckResult(
            "database",
            "unreachable",
            en("no connection ({})", type(error).__name__),
            "start it, or correct DINGRELAY_DATABASE_URL",
        )
    if failure := _check_writes(settings.database):
        return failure
    kind = settings.database.partition(":")[0]
    newest = newest_revision()
    if current is not None and current > newest:
        finding = en("{}, revision {}: a newer release's, this one knows {}", kind, current, newest)
        return CheckResult("database", "warning", finding, "upgrade dingrelay here, too")
    if current != newest:
        finding = en("{}, revision {} instead of {}", kind, current or "none", newest)
        return CheckResult("database", "warning", finding, "start a worker: it migrates the tables")
    return CheckResult("database", "ok", en("{}, revision {}", kind, current))


LEAST_FREE = 16 * 1024 * 1024
"""Bytes beside an SQLite file: its journal may take some megabytes."""


def _check_writes(url: str) -> CheckResult | None:
    """The reason why the database takes no writes, if that is known; nothing is left of the trial."""
    engine = sync_engine(url)
    try:
        if engine.dialect.name == "sqlite":
            file = Path(engine.url.database or "").absolute()
            if shutil.disk_usage(file.parent).free < LEAST_FREE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - as a server says it
        else:
            with engine.begin() as connection:
                connection.execute(text(TRIAL))
    except (SQLAlchemyError, OSError) as error:
        return cause("database", error, "DINGRELAY_DATABASE_URL")
    finally:
        engine.dispose()
    return None
