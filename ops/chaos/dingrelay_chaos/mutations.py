"""``python -m dingrelay_chaos.mutations``: fixes, undone one by one; chaos must notice each of them.

A mutation replaces a text of one source file in a copy of the source tree, and seeds are run on the copy
until one fails. The same seed must hold on the source as it is. A mutation is text, not a patch of
objects, so that it can be about Lua, too, and reads like the diff of a bad change; all are in ``mutations.toml``.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SEEDS = 6
SECONDS = 20.0
ROOT = Path(__file__).resolve().parents[3]
"""The top of the source tree."""
PACKAGES = (
    "tasks/dingrelay_tasks",
    "producers/dingrelay_producers",
    "workers/dingrelay_workers",
    "ops/sandbox/dingrelay_sandbox",
    "ops/chaos/dingrelay_chaos",
)
"""The parts of the source tree that a run needs."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One behaviour taken out.

    Attributes:
        name: for the command line.
        what: what is wrong then, in one sentence.
        file: the source file, from the top of the tree.
        old: a text that is in it once.
        new: what stands there instead.
        only: operations and faults that show it; drawing nothing else saves runs.
        first: the first seed to try: one that is known to show it.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    only: Sequence[str] = ()
    first: int = 1

    @property
    def applies(self) -> bool:
        """Whether the source still has the text, once."""
        return (ROOT / self.file).read_text("utf-8").count(self.old) == 1

    def apply(self, tree: Path) -> None:
        """Replace the text in a copy of the tree.

        Raises:
            ValueError: the source has changed, and the mutation has to follow it.
        """
        if not self.applies:
            raise ValueError(f"{self.name}: its text is not in {self.file} exactly once")
        path = tree / self.file
        path.write_text(path.read_text("utf-8").replace(self.old, self.new), "utf-8")


with Path(__file__).with_name("mutations.toml").open("rb") as _file:
    MUTATIONS = tuple(Mutation(**each) for each in tomllib.load(_file)["mutation"])


def main() -> int:
    """Try the mutations; 1 if one is not noticed."""
    options = _options()
    by_name = {each.name: each for each in MUTATIONS}
    chosen = [by_name[name] for name in options.names or by_name]
    with ThreadPoolExecutor(options.jobs) as pool:
        noticed = list(pool.map(partial(_noticed, options), chosen))
    print(f"{sum(noticed)} of {len(chosen)} mutations are noticed")
    return 0 if all(noticed) else 1


def _noticed(options: argparse.Namespace, mutation: Mutation) -> bool:
    with tempfile.TemporaryDirectory(prefix="dingrelay-mutant-") as name:
        tree = Path(name)
        for package in (*PACKAGES, "ops/chaos/clock"):
            shutil.copytree(ROOT / package, tree / package)
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
    folders = [tree / Path(package).parent for package in PACKAGES]
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
