"""The Celery app of the workers: ``celery -A dingrelay_workers.app worker``."""

import gc
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep
from celery.signals import (
    celeryd_after_setup,
    celeryd_init,
    setup_logging,
    worker_ready,
    worker_shutdown,
)
from celery.worker.state import maybe_shutdown
from structlog.stdlib import get_logger

from dingrelay_producers import metrics_server, running
from dingrelay_producers.celery_config import celery_config
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.tracing import export
from dingrelay_tasks.contract import DIRECTORY_QUEUE, EVENTS_QUEUE, LANES, QUEUES, WEBHOOKS_QUEUE
from dingrelay_tasks.kinds import KINDS, Kind
from dingrelay_workers.celery_worker import supported
from dingrelay_workers.refusal import refusing

with refusing():
    # Before that is imported which stands on it.
    supported.check()
    ALL_KINDS: tuple[Kind, ...] = (*KINDS.values(),)

from dingrelay_workers import logs, metrics, preflight
from dingrelay_workers.celery_worker import controls, transport
from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.celery_worker.pool import JobTask, NewerKindTask
from dingrelay_workers.celery_worker.servers import Servers
from dingrelay_workers.celery_worker.watchdog import Watchdog
from dingrelay_workers.resources import Resources

FORCED_AFTER = 4.0
"""Seconds after `soft_shutdown` in which a worker that is still there closes what it has."""
COLLECTED_AFTER = 5_000
"""New objects before Python's garbage collector looks at them. At its own 700 it would find little
but jobs that run, again and again."""

ROBOT_QUEUES = frozenset(f"dingrelay.{lane}" for lane in LANES)
"""Queues with messages to robots: only a worker of these needs webhooks."""

log = get_logger("dingrelay.worker")

with refusing():
    settings = Settings.load()
    preflight.check(settings)

transport.install()
app = Celery("dingrelay", set_as_current=False)
app.config_from_object(celery_config(settings))
app.conf.worker_pool = "dingrelay_workers.celery_worker.pool:JobPool"
app.conf.worker_concurrency = 32
app.conf.worker_consumer = "dingrelay_workers.celery_worker.consumer:Consumer"


class _Worker:
    """Celery's options of this worker process, before it starts."""

    concurrency = 8
    queues: tuple[str, ...] = QUEUES
    consumer: Any = None
    servers: Servers


def _open_engine() -> Resources:
    return Resources(
        settings,
        Publisher(settings, app),
        concurrency=_Worker.concurrency,
        queues=_Worker.queues,
        # Celery's `cancel_consumer` and `add_consumer` change it.
        consumed=lambda: tuple(app.amqp.queues.consume_from),
    )


runtime = Runtime(_open_engine)
watchdog = Watchdog(
    settings.soft_shutdown + FORCED_AFTER, begin=runtime.drain, running=lambda: runtime.running
)


def _register(kind: Kind) -> None:
    name = kind.name.replace("-", "_")
    attributes = {
        "name": kind.task,
        "kind": kind,
        "runtime": runtime,
        "__doc__": kind.contract.__doc__,
    }
    app.register_task(type(name, (JobTask,), {**attributes, "__module__": __name__})())


for _kind in ALL_KINDS:
    _register(_kind)
app.register_task(
    type("of_a_newer_release", (NewerKindTask,), {"runtime": runtime, "__module__": __name__})()
)


controls.install(runtime)


def _check_options(options: Any, **_: Any) -> None:
    with refusing():
        controls.check_options(options)
        preflight.check_apps(settings)


def _set_up_logging(**_: Any) -> None:
    logs.configure(settings)


def _begin(instance: Any, **_: Any) -> None:
    """Answer probes before any server is asked: Celery waits for the broker from here on."""
    _Worker.concurrency = instance.concurrency
    preflight.raise_descriptor_limit(instance.concurrency)
    _Worker.queues = tuple(instance.app.amqp.queues.consume_from)
    if not set(_Worker.queues).isdisjoint(ROBOT_QUEUES):
        with refusing():
            preflight.check_webhooks(settings)
    for queue in _Worker.queues:
        if queue not in QUEUES:
            log.warning("queue_of_no_lane", queue=queue, lanes=list(QUEUES))
    watchdog.start()
    export.start("dingrelay-worker")
    metrics.begin(_Worker.queues, settings.apps)
    needs_tables = not {DIRECTORY_QUEUE, EVENTS_QUEUE, WEBHOOKS_QUEUE}.isdisjoint(_Worker.queues)
    _Worker.servers = Servers(
        settings, runtime, lambda: _Worker.consumer, needs_tables=needs_tables
    )
    runtime.begin()
    metrics_server.serve(settings.metrics_port, runtime.loop, away=_Worker.servers.away)
    with refusing():
        runtime.run(_Worker.servers.begin)


def _start(sender: Any, **_: Any) -> None:
    runtime.run(_Worker.servers.settle)
    maybe_shutdown()
    resources = runtime.start().resources
    _Worker.consumer = sender
    _leave_out_of_collections()
    running.notify_ready()
    log.info("worker_ready", worker=resources.worker, queues=list(_Worker.queues))


def _leave_out_of_collections() -> None:
    """Let Python's garbage collector pass over what the worker holds from its start to its end.

    Each full collection would look through all of it, and stop every job for as long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER)


class _Closing(StartStopStep):  # type: ignore[misc]  # celery ships no types
    """Stops the jobs of a worker that is stopped otherwise than by a signal."""

    def close(self, parent: Any) -> None:
        """The worker's steps are about to stop, the pool among them."""
        watchdog.stop()


def _stop(**_: Any) -> None:
    runtime.stop(settings.soft_shutdown)
    export.stop()


_steps: Any = app.steps
_steps["worker"].add(_Closing)
celeryd_init.connect(_check_options, weak=False)
setup_logging.connect(_set_up_logging, weak=False)
celeryd_after_setup.connect(_begin, weak=False)
worker_ready.connect(_start, weak=False)
worker_shutdown.connect(_stop, weak=False)
