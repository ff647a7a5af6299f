"""Some seeds of the simulated fleet: nothing is violated, and each gives the same trace twice."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from thorough import either

FOLDER = Path(__file__).parents[2] / "ops/simulation"
FIXED = range(1, either(3, 301))
UNSEEN = [random.SystemRandom().randrange(10_000, 10_000_000) for _ in range(either(2, 100))]
"""Seeds that are new each time."""


def simulate(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: it puts that process's clock in place."""
    return subprocess.run(
        [sys.executable, "-m", "dingrelay_simulation", *options],
        cwd=FOLDER,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(FOLDER), *sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )


def kept_seeds() -> list[int]:
    lines = (FOLDER / "kept-seeds.txt").read_text("utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if not line.startswith("#")]


def test_a_trace_is_the_same_in_another_process_and_after_other_seeds() -> None:
    after_another, alone = (
        re.findall(
            r"^seed 1: ([0-9a-f]{16}),",
            simulate("--verbose", "--only", *seeds).stdout,
            re.MULTILINE,
        )
        for seeds in (("2", "1"), ("1",))
    )
    assert after_another == alone != []


@pytest.mark.timeout(1_800 if os.environ.get("THOROUGH") else 240)
def test_no_seed_violates_an_invariant_and_each_is_replayed_exactly() -> None:
    seeds = [*kept_seeds(), *FIXED, *UNSEEN]
    ran = simulate("--twice", "--jobs=2", "--only", *map(str, seeds))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    summaries = re.findall(r"^(\d+) seeds, (\d+) failed", ran.stdout, re.MULTILINE)
    assert sum(int(count) for count, _ in summaries) == len(seeds)
    assert [failed for _, failed in summaries] == ["0", "0"]
