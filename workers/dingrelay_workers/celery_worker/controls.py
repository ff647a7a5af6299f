"""Celery's options and remote commands, made true of jobs: what can't do here what it says is refused."""

from collections.abc import Mapping
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker.control import control_command

from dingrelay_producers.settings import SettingsError
from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.celery_worker.pool import JobPool

Reply = dict[str, str]

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


def check_options(options: Mapping[str, Any]) -> None:
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
        SettingsError: as `check_options`.
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


def install(runtime: Runtime) -> None:
    """Answer these commands in place of Celery."""

    @control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
    def revoke(state: Any, task_id: Any, **_: Any) -> Reply:
        """Cancel jobs: one that runs is not tried again, and makes no further call."""
        ids = {str(job_id) for job_id in maybe_list(task_id) or []}
        dispatcher = state.consumer.event_dispatcher

        def report(job_id: str) -> None:
            if dispatcher:
                gone = {"terminated": False, "signum": None, "expired": False}
                dispatcher.send("task-revoked", uuid=job_id, **gone)

        runtime.submit(lambda executor: executor.resources.revocations.revoke(ids, report))
        return {"ok": f"cancelling {', '.join(sorted(ids))}"}

    @control_command(
        name="terminate",
        variadic="task_id",
        args=[("signal", str)],
        signature="<signal> [id1 [id2 [... [idN]]]]",
    )  # type: ignore[untyped-decorator]
    def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> Reply:
        """As revoke: a signal would end all jobs of the process."""
        reply: Reply = revoke(state, task_id)
        return reply

    @control_command(
        name="time_limit",
        args=[("task_name", str), ("soft", float), ("hard", float)],
        signature="<task_name> <soft_secs> [hard_secs]",
    )  # type: ignore[untyped-decorator]
    def time_limit(_: Any, **__: Any) -> Reply:
        """Refused: the time of a job is a setting."""
        return {"error": "set DINGRELAY_JOB_TIMEOUT, the seconds that one run of a job may take"}

    @control_command(
        name="rate_limit",
        args=[("task_name", str), ("rate_limit", str)],
        signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
    )  # type: ignore[untyped-decorator]
    def rate_limit(_: Any, **__: Any) -> Reply:
        """Refused: this one would count in this worker only, beside the fleet's limits."""
        return {"error": "set [rules]: they hold for all workers together"}

    @control_command(
        name="autoscale",
        args=[("max", int), ("min", int)],
        signature="[max [min]]",
    )  # type: ignore[untyped-decorator]
    def autoscale(_: Any, **__: Any) -> Reply:
        """Refused: a job that waits costs a worker hardly anything."""
        return {"error": "grow the pool, or start another worker"}
