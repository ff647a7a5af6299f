"""Controls by Flower and ``celery control``, and options of ``celery worker``."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from redis import Redis

from acceptance import traffic
from acceptance.fleet import APP, CELERY, MESSAGE_QUEUES, Fleet
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from support import processes


@pytest.fixture
def celery(valkey_url: str) -> Iterator[Celery]:
    """A Celery app that knows the broker and nothing of ours, as Flower's."""
    celery = Celery("bare", broker=valkey_url, set_as_current=False)
    yield celery
    celery.close()


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_revoked_job_is_cancelled_for_good(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin, celery: Celery
) -> None:
    sandbox.add_fault("latency", api=traffic.SEND, min_ms=1_500, max_ms=1_500)
    (first,) = fleet.spawn(concurrency=8)
    later = client.send(traffic.message(1, send_at=soon(600)))
    celery.control.revoke(later.id)
    wait_until(lambda: later.status().state == State.CANCELLED, what="the record says so")

    # One that runs is marked and nothing else ends: the process is everybody's.
    ids = traffic.send_all(client, map(traffic.message, range(2, 6)))
    intent = [keys.job(job_id) for job_id in ids]
    wait_until(lambda: all(valkey.hexists(job, "intent") for job in intent), what="calls left")
    celery.control.revoke(ids[0], terminate=True, signal="SIGKILL")
    wait_until(lambda: valkey.hget(keys.job(ids[0]), "cancel") == b"1", what="it is marked")
    wait_until(lambda: traffic.done(valkey, ids) == 4, what="what had left is done")
    assert first.alive

    # A message that no worker has seen yet, and a worker that knows nothing of the revoke.
    bare = "11111111-2222-3333-4444-555555555555"
    celery.control.revoke(bare)
    wait_until(lambda: valkey.exists(keys.revoked(bare)), what="it is noted")
    first.stop()
    kwargs = {"job": traffic.message(9).wire()}
    celery.send_task(
        "dingrelay.message-send", kwargs=kwargs, task_id=bare, queue="dingrelay.normal"
    )
    fleet.spawn(concurrency=8)
    wait_until(lambda: valkey.exists(keys.job(bare)), what="a worker has made the record")
    wait_until(lambda: client.status(bare).state.ended, what="it has ended")
    assert client.status(bare).state == later.status().state == State.CANCELLED
    wait_until(lambda: not valkey.get(keys.revoked(bare)), what="it was carried out")

    # The record is the truth: a requeued job runs, whatever Celery remembers.
    assert client.requeue(bare)
    assert client.job(bare).wait(20).state == State.DONE
    traffic.assert_each_arrived_once(sandbox, [2, 3, 4, 5, 9])


def test_a_worker_runs_with_the_options_that_are_taken(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, celery: Celery
) -> None:
    options = ["-O", "fair", "-E", "-P", "prefork", "--disable-prefetch", "--without-heartbeat"]
    options += ["-S", str(fleet.directory / "state.db"), "--scheduler", "x:Y", "-l", "INFO"]
    queues = [*MESSAGE_QUEUES, "shop.notify"]
    (worker,) = fleet.spawn(app=APP, concurrency=2, queues=queues, options=options)
    assert '"queue_of_no_lane"' in worker.log.read_text()
    control = celery.control
    # What is said before it listens is lost.
    wait_until(lambda: control.ping(timeout=1, limit=1), what="it listens")
    for reply in (
        control.pool_grow(4, reply=True, timeout=5, limit=1),
        control.pool_shrink(1, reply=True, timeout=5, limit=1),
    ):
        assert reply
        assert "error" not in str(reply)
    limited = control.time_limit("dingrelay.message-send", hard=1, reply=True, timeout=5, limit=1)
    assert "DINGRELAY_JOB_TIMEOUT" in str(limited)
    limited = control.rate_limit("dingrelay.message-send", "1/s", reply=True, timeout=5, limit=1)
    assert "[rules]" in str(limited)
    scaled = control.autoscale(8, 2, reply=True, timeout=5, limit=1)
    assert "grow the pool" in str(scaled)
    stats = next(iter(control.inspect(timeout=5, limit=1).stats().values()))
    assert stats["pool"]["max-concurrency"] == 5
    assert stats["prefetch_count"] == 5

    ids = traffic.send_all(client, map(traffic.message, range(30)))
    shop = celery.send_task(
        "dingrelay.message-send", kwargs={"job": traffic.message(30).wire()}, queue="shop.notify"
    )
    ids.append(str(shop.id))
    wait_until(lambda: len(client.recent(50)) == len(ids), what="all have a record")
    for job_id in ids:
        assert client.job(job_id).wait(20).state == State.DONE
    control.shutdown()
    assert worker.process.wait(60) == 0
    traffic.assert_each_arrived_once(sandbox, range(31))


ODD_QUEUES: dict[str, dict[str, object]] = {
    "queue": {"queue": {"a": 1}},
    "queue: must": {},
    "queue: must be": {"queue": keys.TAKEN},
    "exchange": {"queue": "shop", "exchange": 5},
    "exchange_type": {"queue": "shop", "exchange_type": "fanout"},
    "alias": {"queue": "shop", "alias": [1]},
    "bindings": {"queue": "shop", "bindings": 5},
}
"""Part of the error → what Celery would carry out later, where it ends the worker or its connection each time."""


def test_a_command_that_names_no_queue_ends_no_worker(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, celery: Celery
) -> None:
    (worker,) = fleet.spawn(1, concurrency=2)
    # What is said before it listens is lost.
    wait_until(lambda: celery.control.ping(timeout=1, limit=1), what="it listens")

    def broadcast(command: str, **arguments: object) -> str:
        replies = celery.control.broadcast(
            command, arguments=arguments, reply=True, timeout=20, limit=1
        )
        return str(replies)

    for error, arguments in ODD_QUEUES.items():
        assert f"'error': '{error}" in broadcast("add_consumer", **arguments)
    assert "'error': 'queue" in broadcast("cancel_consumer", queue=["x"])
    options: dict[str, object] = {"queue_arguments": {}, "exchange_type": "direct"}
    assert "'ok'" in broadcast("add_consumer", queue="shop", **options)
    job = traffic.message(1).wire()
    sent = celery.send_task("dingrelay.message-send", kwargs={"job": job}, queue="shop")
    wait_until(lambda: client.recent(5), what="it has a record")
    assert client.job(str(sent.id)).wait(20).state == State.DONE
    assert worker.alive


@pytest.mark.parametrize(
    ("options", "lease", "reason"),
    [(["--autoscale", "8,2"], "30", "--autoscale: "), ([], "soon", "DINGRELAY_LEASE")],
    ids=["option", "setting"],
)
def test_a_refused_start_is_said(fleet: Fleet, options: list[str], lease: str, reason: str) -> None:
    (worker,) = fleet.spawn(app=APP, options=options, wait=False, DINGRELAY_LEASE=lease)
    assert worker.process.wait(90) == 2
    lines = [line for line in worker.log.read_text().splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("dingrelay: ")
    assert reason in lines[0]


def test_celery_multi_starts_and_stops_workers(fleet: Fleet, client: Client) -> None:
    at = str(fleet.directory / "%n")
    names = ["1", "-c", "2", "-Q", "dingrelay.normal", f"--pidfile={at}.pid", f"--logfile={at}.log"]
    command = [*CELERY, "-A", APP, "multi"]
    environment = fleet.environment()
    processes.run([*command, "start", *names], env=environment, check=True)
    try:
        assert client.send(traffic.message(1)).wait(30).state == State.DONE
    finally:
        processes.run([*command, "stopwait", *names], env=environment, check=True)
    assert not list(fleet.directory.glob("*.pid"))
