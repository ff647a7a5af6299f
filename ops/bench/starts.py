"""Processor time of commands that a shell script calls, from their start to their end, beside `celery --version`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from statistics import median

from figures import Figure
from messages import distinct
from testbed import CLI, Testbed

GROUP = "CPU of a command"
ROUNDS = 15
"""The commands are run in turns so often, and medians reported."""


def measure(testbed: Testbed, rounds: int = ROUNDS) -> list[Figure]:
    """Seconds of processor time of each command.

    Args:
        testbed: where to measure; no worker runs.
        rounds: how often each is run, beside a first time that fills the caches of the disk.
    """
    testbed.clear()
    with testbed.client() as client:
        job = client.send(next(iter(distinct(1)))).id
    commands = {
        "dingrelay --version": [*CLI, "--version"],
        "dingrelay job show": [*CLI, "job", "show", job],
        "dingrelay send": [*CLI, "send", "--to", "u1", "--text", "hello"],
        "celery --version": [sys.executable, "-m", "celery", "--version"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    seconds: dict[str, list[float]] = {}
    for _ in range(1 + rounds):
        for name, command in commands.items():
            seconds.setdefault(name, []).append(_cpu_seconds(command, testbed.env))
    bounds = {"dingrelay --version": 0.25, "dingrelay job show": 0.45, "dingrelay send": 0.5}
    return [
        Figure(GROUP, name, median(times[1:]), "s", at_most=bounds.get(name))
        for name, times in seconds.items()
    ]


def _cpu_seconds(command: list[str], environment: Mapping[str, str]) -> float:
    """Processor time of a command that succeeds."""
    # What is installed has its bytecode: this would have our code, and no library's, compiled at each start.
    inherited = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    process = subprocess.Popen(
        command,
        env={**inherited, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime
