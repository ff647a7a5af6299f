"""``python -m dingrelay_chaos.mutations``: fixes, undone one by one; chaos must notice each of them.

The list is one with the simulation's, and those that name operations and faults of chaos are tried here.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dingrelay_simulation.mutations import MUTATIONS as ALL
from dingrelay_simulation.mutations import PACKAGES, ROOT, Mutation, copy_tree, try_mutations

SEEDS = 6
SECONDS = 20.0
RUNNER = "ops/chaos/dingrelay_chaos"
MUTATIONS = tuple(mutation for mutation in ALL if mutation.only)
"""Mutations that need real processes, or are shown by them as well."""


def main() -> int:
    """Try the mutations; 1 if one is not noticed."""
    options = _options()
    names = options.names or [mutation.name for mutation in MUTATIONS]
    return try_mutations(MUTATIONS, names, options.jobs, partial(_noticed, options))


def _noticed(options: argparse.Namespace, mutation: Mutation) -> bool:
    with tempfile.TemporaryDirectory(prefix="dingrelay-mutant-") as name:
        tree = Path(name)
        copy_tree(tree, (*PACKAGES, RUNNER))
        shutil.copytree(ROOT / "ops/chaos/clock", tree / "ops/chaos/clock")
        mutation.apply(tree)
        first = mutation.first if options.seed is None else options.seed
        for seed in range(first, first + options.seeds):
            began = time.monotonic()
            failure = _failure(tree, seed, options.seconds, mutation.only)
            took = time.monotonic() - began
            if failure is None:
                continue
            clean = _failure(ROOT, seed, options.seconds, mutation.only)
            word = "seed" if clean is None else "BUT the source fails, too, at seed"
            print(
                f"{mutation.name}: noticed by {word} {seed} in {took:.0f} s: {failure}", flush=True
            )
            if clean is None:
                return True
    print(f"{mutation.name}: not noticed in {options.seeds} seeds ({mutation.what})", flush=True)
    return False


def _failure(tree: Path, seed: int, seconds: float, only: Sequence[str]) -> str | None:
    """The first violation of a seed on a tree; None if it holds."""
    folders = [tree / Path(package).parent for package in (*PACKAGES, RUNNER)]
    command = [sys.executable, "-m", "dingrelay_chaos", "--seed", str(seed)]
    ran = subprocess.run(
        [*command, "--seconds", f"{seconds:g}", "--only", *only],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        return None
    found = [line.strip() for line in ran.stdout.splitlines() if "invariant " in line]
    return found[0] if found else (ran.stdout + ran.stderr)[-300:]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos-mutations", description=__doc__)
    parser.add_argument("names", nargs="*", help="which mutations; all if none is named")
    parser.add_argument("--seed", type=int, help="the first; each one's own if not given")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many at most")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each seed")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
