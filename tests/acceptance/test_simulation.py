"""Some seeds of the simulated fleet: nothing is violated, and each gives the same trace wherever it runs."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from support.examples import either

FOLDER = Path(__file__).parents[2] / "ops/simulation"
REPLAYED = range(1, either(2, 301))
"""Seeds that run in both processes, behind others and as the first."""
FIXED = either((2,), ())
UNSEEN = [random.SystemRandom().randrange(10_000, 10_000_000) for _ in range(either(2, 100))]
"""Seeds that are new each time."""
CROWDS = either((1,), range(1, 21))


@contextmanager
def simulating(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process of its own, which ends with the block: it puts that process's clock in place."""
    # A seed that takes too long would not be known otherwise.
    print("simulate", *options)  # noqa: T201 - which seeds, if it is too slow
    command = subprocess.Popen(
        [sys.executable, "-m", "dingrelay_simulation", "--verbose", *options],
        cwd=FOLDER,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(FOLDER), *sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with command:
        try:
            yield command
        finally:
            # With the runs that it has begun, and their Valkeys.
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)


def hashes(process: subprocess.Popen[str], seeds: Sequence[int]) -> dict[int, str]:
    """The hash of each seed's trace, once all have run and none has failed."""
    output, _ = process.communicate()
    assert f"{len(seeds)} seeds, 0 failed" in output, output
    found = re.findall(r"^seed (\d+): ([0-9a-f]{16}),", output, re.MULTILINE)
    return {int(seed): digest for seed, digest in found}


def kept_seeds() -> list[int]:
    lines = (FOLDER / "kept-seeds.txt").read_text("utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if not line.startswith("#")]


@pytest.mark.timeout(1_800 if os.environ.get("THOROUGH") else 480)
def test_no_seed_violates_an_invariant_and_each_is_replayed_exactly() -> None:
    seeds = [*kept_seeds(), *FIXED, *UNSEEN]
    half = len(seeds) // 2
    shares = [[*seeds[:half], *REPLAYED], [*REPLAYED, *seeds[half:]]]
    with ExitStack() as stack:
        commands = [stack.enter_context(simulating("--only", *map(str, share))) for share in shares]
        one, other = map(hashes, commands, shares)
    assert [one[seed] for seed in REPLAYED] == [other[seed] for seed in REPLAYED]


def test_senders_of_a_crowd_take_turns_and_use_the_limit_whatever_fails() -> None:
    with simulating("--crowd", "--only", *map(str, CROWDS)) as command:
        hashes(command, CROWDS)
