"""The options of ``celery worker`` that would not do here what they say."""

from collections.abc import Mapping
from typing import Any

from dingrelay_producers.settings import SettingsError
from dingrelay_workers.celery_worker.pool import JobPool

_NO_CHILDREN = "jobs run in the worker's own process; let its supervisor restart it"
_JOB_TIMEOUT = "set DINGRELAY_JOB_TIMEOUT, the seconds that one run of a job may take"
_CONCURRENCY = "-c is how many jobs run at once"

REFUSED: Mapping[str, tuple[str, str]] = {
    "autoscale": ("--autoscale", f"there are no processes to add or to end; {_CONCURRENCY}"),
    "beat": ("--beat", "dingrelay schedules by itself; run `celery beat` beside it for your tasks"),
    "max_memory_per_child": ("--max-memory-per-child", _NO_CHILDREN),
    "max_tasks_per_child": ("--max-tasks-per-child", _NO_CHILDREN),
    "pool_start_method": ("--pool-start-method", _NO_CHILDREN),
    "purge": (
        "--purge",
        "messages only wake jobs and would come again; use `dingrelay job cancel`",
    ),
    "soft_time_limit": ("--soft-time-limit", _JOB_TIMEOUT),
    "time_limit": ("--time-limit", _JOB_TIMEOUT),
}
"""Celery's name of an option → how it is written, and what to do instead."""

DEFAULT_POOL = "prefork"
"""Where the app has a pool of its own, Celery takes its default for that one."""
NO_OTHER_POOL = f"--pool: jobs have a pool of their own; leave it out, {_CONCURRENCY}"


def check(options: Mapping[str, Any]) -> None:
    """Look through the options as Celery has read them.

    Raises:
        SettingsError: names one that does not work here, and what to use instead.
    """
    for name, (option, instead) in REFUSED.items():
        if options.get(name):
            raise SettingsError(f"{option}: {instead}")
    pool = options.get("pool")
    if pool is not None and not (isinstance(pool, type) and issubclass(pool, JobPool)):
        raise SettingsError(NO_OTHER_POOL)
    if options.get("prefetch_multiplier", 1) != 1:
        raise SettingsError(f"--prefetch-multiplier: a message that is taken runs; {_CONCURRENCY}")


def check_pool(arguments: list[str]) -> None:
    """Look for another pool before Celery loads what that needs, which may not be installed.

    Raises:
        SettingsError: as `check`.
    """
    rest = iter(arguments)
    for argument in rest:
        if argument in {"-P", "--pool"}:
            pool = next(rest, "")
        elif argument.startswith(("-P", "--pool=")):
            pool = argument.removeprefix("--pool=").removeprefix("-P")
        else:
            continue
        if pool != DEFAULT_POOL:
            raise SettingsError(NO_OTHER_POOL)
