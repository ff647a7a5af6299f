"""Celery's options and remote commands, made true of jobs: what can't do here what it says is refused."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker.control import Panel, control_command

from dingrelay_producers.settings import SettingsError
from dingrelay_producers.store import keys
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
"""Celery's default pool, also where the app has a pool of its own."""
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
    remaining_arguments = iter(arguments)
    for argument in remaining_arguments:
        if argument in {"-P", "--pool"}:
            pool = next(remaining_arguments, "")
        elif argument.startswith(("-P", "--pool=")):
            pool = argument.removeprefix("--pool=").removeprefix("-P")
        else:
            continue
        if pool != DEFAULT_POOL:
            raise SettingsError(NO_OTHER_POOL)


REFUSED_COMMANDS: Mapping[str, str] = {
    "time_limit": _JOB_TIMEOUT,
    "rate_limit": "set [rules]: they hold for all workers together",
    "autoscale": "grow the pool, or start another worker: a job that waits costs one hardly anything",
}
"""Celery's name of a remote command → what to do instead."""

OF_QUEUES = ("add_consumer", "cancel_consumer")
"""Celery's remote commands that name a queue. It carries them out later, where an error would end the worker."""
EXCHANGE_TYPES = (None, "direct", "topic")
FIELDS_OF_QUEUES: Mapping[str, type] = {
    "exchange": str,
    "exchange_type": str,
    "routing_key": str,
    "queue_arguments": dict,
}
"""Field of such a command beside the queue → its type."""


def install(runtime: Runtime) -> None:
    """Answer these commands in place of Celery, with its arguments."""

    def revoke(state: Any, task_id: Any, **_: Any) -> Reply:
        """Cancel jobs: one that runs is not tried again, and makes no further call."""
        ids = {str(job_id) for job_id in maybe_list(task_id) or []}
        dispatcher = state.consumer.event_dispatcher

        def report(job_id: str) -> None:
            if dispatcher:
                details = {"terminated": False, "signum": None, "expired": False}
                dispatcher.send("task-revoked", uuid=job_id, **details)

        runtime.submit(lambda executor: executor.resources.revocations.revoke(ids, report))
        return {"ok": f"cancelling {', '.join(sorted(ids))}"}

    def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> Reply:
        """Like revoke: a signal would end all jobs of the process."""
        return revoke(state, task_id)

    _answer("revoke", revoke, revoke.__doc__)
    _answer("terminate", terminate, terminate.__doc__)
    for name, instead in REFUSED_COMMANDS.items():
        _answer(name, partial(_refuse, {"error": instead}), f"Refused: {instead}")
    for name in OF_QUEUES:
        _answer(name, partial(_check_queue, Panel.data[name]), Panel.data[name].__doc__)


def _check_queue(
    carry_out: Callable[..., Reply], state: Any, queue: Any = None, **fields: Any
) -> Reply:
    """Carry a command out if it names a queue, which no key of ours at the broker is."""
    if not isinstance(queue, str) or not queue or queue.startswith(keys.PREFIX):
        return {"error": "queue: must be the name of a queue"}
    if fields.get("exchange_type") not in EXCHANGE_TYPES:
        return {"error": "exchange_type: must be direct or topic"}
    for name, value in fields.items():
        if value is not None and not isinstance(value, FIELDS_OF_QUEUES.get(name, ())):
            return {"error": f"{name}: must not be {type(value).__name__} here"}
    return carry_out(state, queue, **fields)


def _refuse(reply: Reply, *_: Any, **__: Any) -> Reply:
    return reply


def _answer(name: str, answer: Callable[..., Reply], about: str | None) -> None:
    command = Panel.meta[name]
    names = {
        attribute: getattr(command, attribute) for attribute in ("args", "variadic", "signature")
    }
    control_command(name=name, help=about, **names)(answer)
