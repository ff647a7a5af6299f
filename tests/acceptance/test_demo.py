"""The demo as a person starts it: to its end, and stopped in the middle."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from conftest import wait_until

DEMO = [sys.executable, "-m", "dingrelay_demo"]
SECONDS = 200
"""It takes less than 90 on a machine of its own."""


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The demo without a terminal, in a folder with settings that it must not heed."""
    (folder / ".env").write_text("DINGRELAY_ENV=production\nDINGRELAY_MAX_ATTEMPTS=none\n", "utf-8")
    environment = {**os.environ, "DINGRELAY_REDIS_URL": "redis://elsewhere.invalid:1/0"}
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            DEMO,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.timeout(SECONDS + 30)
def test_the_audit_agrees_in_the_end(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        code = process.wait(SECONDS)
    told = (tmp_path / "out").read_text("utf-8")
    assert code == 0, told
    for line in ("lost 0 0 0", "duplicated 0 0 0", "token fetches 1", "the audit of the sandbox"):
        assert re.search(line.replace(" ", r"\s+"), told), line
    assert re.search(r"Flower was at http://127\.0\.0\.1:\d+", told)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_demo_that_was_stopped(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as process:
        told = tmp_path / "out"
        wait_until(lambda: b"Flower" in told.read_bytes(), timeout=90, what="the demo plays")
        family = psutil.Process(process.pid)
        children = family.children(recursive=True)
        assert children
        process.send_signal(number)
        assert process.wait(40) == 130
    wait_until(lambda: not any(map(_lives, children)), timeout=10, what="all have ended")


def _lives(child: psutil.Process) -> bool:
    return bool(child.is_running()) and child.status() != psutil.STATUS_ZOMBIE
