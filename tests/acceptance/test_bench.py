"""The benchmarks run, on figures too short to judge."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from measurements import MEASUREMENTS

from support import processes
from support.examples import either

GROUPS = {
    "limit used, 5–30 ms away",
    "answers refused, 5–30 ms away",
    "urgent under a broadcast",
    "10 equal texts, one by one",
    "worker CPU of a job",
    "CPU of a command",
    "single messages over HTTP",
    "jobs as JSON lines over HTTP",
    "a message in Redis and in a worker",
    "jobs enqueued a second, one thread",
    "1,000 jobs that wait",
    "200 alerts to a group of two robots",
    "console on 2,000 jobs, SQLite",
    "console on 2,000 jobs, SQLite: screens, p95",
    "console on 2,000 jobs, PostgreSQL",
    "console on 2,000 jobs, PostgreSQL: screens, p95",
}
"""All that a quick run of everything shows."""
RUN = """
import sys, gateway, pages, run, testbed
from support import processes

# Most of the processes that it starts are forks.
testbed.subprocess = gateway.subprocess = pages.subprocess = processes
pages.EXAMPLES = 1
sys.exit(run.main())
"""


SMOKE = [measurement.letter for measurement in MEASUREMENTS if measurement.in_smoke]
CHOSEN = either(random.SystemRandom().sample(SMOKE, 3), SMOKE)
"""Others each time: all of them take half a minute of a processor."""


@pytest.mark.timeout(240)
def test_a_measurement_gives_its_figures(tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    only = [f"--only={letter}" for letter in CHOSEN]
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--quick", *only, "--json", str(report)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **processes.address()},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measurements = json.loads(report.read_text())["measurements"]
    assert [each["letter"] for each in measurements] == [
        letter for letter in SMOKE if letter in CHOSEN
    ]
    figures = [figure for each in measurements for figure in each["figures"]]
    for measurement in measurements:
        assert measurement["figures"], measurement["letter"]
    needed = [figure for figure in figures if figure.get("unit") == "ms"]
    assert all(figure["value"] > 0 for figure in needed)
    if CHOSEN == SMOKE:
        assert {figure["group"] for figure in figures} == GROUPS
