"""The demo as a person starts it: to its end, and stopped in the middle."""

import os
import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from conftest import wait_until
from support import processes, supervised

SMALLER = """
from dingrelay_demo import scenarios
scenarios.BURST, scenarios.URGENT_AFTER = 80, 30
scenarios.STORM_BURST, scenarios.STORM_SECONDS = 50, 2
scenarios.CAMPAIGN_RATE = 30_000
scenarios.KILL_BURST, scenarios.KILL_AFTER = 40, 12
"""
"""Each act as it is, of fewer messages: most of the demo's time is the limit of 20 calls a second."""
SECONDS = 200
"""It takes less than 40 on a machine of its own."""


@contextmanager
def demo(folder: Path) -> Generator[processes.Popen[bytes]]:
    """The demo without a terminal, in a folder with settings that it must not heed."""
    (folder / ".env").write_text("DINGRELAY_ENV=production\nDINGRELAY_RETRY_FOR=none\n", "utf-8")
    environment = {**os.environ, **supervised.variables()}
    environment["DINGRELAY_REDIS_URL"] = "redis://elsewhere.invalid:1/0"
    with (folder / "out").open("wb") as out:
        process = processes.Popen[bytes](
            supervised.command("dingrelay_demo", before=SMALLER),
            cwd=folder,
            env=environment,
            stdin=processes.DEVNULL,
            stdout=out,
            stderr=processes.STDOUT,
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
    output = (tmp_path / "out").read_text("utf-8")
    assert code == 0, output
    for line in ("lost 0 0 0", "duplicated 0 0 0", "token fetches 1", "the audit of the sandbox"):
        assert re.search(line.replace(" ", r"\s+"), output), line
    verdict = output[output.index("the audit of the sandbox") :]
    assert "--keep" in verdict
    assert "http" not in verdict, "all has been stopped"


@pytest.mark.timeout(180)
def test_nothing_is_left_of_a_demo_that_was_stopped(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        output = tmp_path / "out"
        wait_until(lambda: b"Flower" in output.read_bytes(), timeout=90, what="the demo plays")
        family = psutil.Process(process.pid)
        children = family.children(recursive=True)
        assert children
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 130
    wait_until(lambda: not any(map(_lives, children)), timeout=10, what="all have ended")


def _lives(child: psutil.Process) -> bool:
    return bool(child.is_running()) and child.status() != psutil.STATUS_ZOMBIE
