"""Real servers that are Debian packages: found, or the test is skipped with a plain word."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest
from redis import Redis
from redis.exceptions import RedisError

from conftest import wait_until
from dingrelay_chaos.process import reserve

REQUIRED = "SERVERS"
"""``.ci/run`` sets it to ``required``: there a missing server is a failure, and nothing is skipped."""


def program(name: str) -> str:
    """The path of a program; the test is skipped where it is missing."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        do_without(f"{name} is not installed; .ci/servers installs it")
    return found


def do_without(missing: str) -> NoReturn:
    """Skip the test, or fail where nothing may be missing."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(missing)
    pytest.skip(missing)


def free_port() -> int:
    """A port on which nothing listens, and which no other process of the tests takes."""
    return reserve()


def redis_answers(redis: Redis) -> bool:
    """Whether a server takes commands."""
    with suppress(RedisError):
        return bool(redis.ping())
    return False


@contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], bool] = lambda: True
) -> Generator[subprocess.Popen[bytes]]:
    """A server while the block runs, which begins once it is ready; its output goes to a file."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: process.poll() is not None or ready(), timeout=60, what=command[0])
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
