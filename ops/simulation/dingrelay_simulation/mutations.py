"""``python -m dingrelay_simulation.mutations``: behaviours taken out one by one; plain seeds must notice each of them.

A mutation replaces a text of one source file in a copy of the source tree, and seeds are run on the copy
until one fails. The same seed must hold on the source as it is. A mutation is text, not a patch of
objects, so that it can be about Lua, too, and reads like the diff of a bad change; all are in ``mutations.toml``.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SEEDS = 200
SHOWN = 160
"""Characters of a violation."""
ROOT = Path(__file__).resolve().parents[3]
"""The top of the source tree."""
PACKAGES = (
    "tasks/dingrelay_tasks",
    "producers/dingrelay_producers",
    "workers/dingrelay_workers",
    "ops/sandbox/dingrelay_sandbox",
)
"""The parts of the source tree that a run needs, beside what runs it."""
_VIOLATION = re.compile(r"^seed (\d+): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One behaviour taken out.

    Attributes:
        name: for the command line.
        what: what is wrong then, in one sentence.
        file: the source file, from the top of the tree.
        old: a text that is in it once.
        new: what stands there instead.
        only: operations and faults of chaos that show it; drawing nothing else saves runs.
        first: the first seed of chaos to try: one that is known to show it.
        unseen: why the simulation cannot notice it; it is not tried unless it is named.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    only: Sequence[str] = ()
    first: int = 1
    unseen: str = ""

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


with (ROOT / "ops/simulation/mutations.toml").open("rb") as _file:
    MUTATIONS = tuple(Mutation(**mutation) for mutation in tomllib.load(_file)["mutation"])


def copy_tree(tree: Path, packages: Sequence[str]) -> list[Path]:
    """Copy packages of the source; the folders by which they are imported."""
    for package in packages:
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return [tree / Path(package).parent for package in packages]


def main() -> int:
    """Try the mutations; 1 if one is not noticed."""
    options = _options()
    seen = [mutation.name for mutation in MUTATIONS if not mutation.unseen]
    return try_mutations(
        MUTATIONS, options.names or seen, options.jobs, partial(_is_noticed, options)
    )


def try_mutations(
    mutations: Iterable[Mutation],
    names: Iterable[str],
    jobs: int,
    is_noticed: Callable[[Mutation], bool],
) -> int:
    """Try the mutations with these names, so many at once; 1 if one is not noticed."""
    by_name = {mutation.name: mutation for mutation in mutations}
    chosen = [by_name[name] for name in names]
    with ThreadPoolExecutor(jobs) as pool:
        noticed = list(pool.map(is_noticed, chosen))
    print(f"{sum(noticed)} of {len(chosen)} mutations are noticed")
    return 0 if all(noticed) else 1


def _is_noticed(options: argparse.Namespace, mutation: Mutation) -> bool:
    with tempfile.TemporaryDirectory(prefix="dingrelay-mutant-") as name:
        tree = Path(name)
        packages = (*PACKAGES, "ops/simulation/dingrelay_simulation")
        folders = copy_tree(tree, packages)
        mutation.apply(tree)
        ran = _run_seeds(folders, options.seed, options.seeds)
    violation = _VIOLATION.search(ran)
    if violation is None:
        print(
            f"{mutation.name}: not noticed in {options.seeds} seeds; {ran[-SHOWN:]!r}", flush=True
        )
        return False
    seed, text = int(violation[1]), violation[2][:SHOWN]
    clean = _run_seeds([ROOT / Path(package).parent for package in packages], seed, 1)
    holds = "1 seeds, 0 failed" in clean
    word = "seed" if holds else "BUT the source fails, too, at seed"
    print(f"{mutation.name}: noticed by {word} {seed}: {text}", flush=True)
    return holds


def _run_seeds(folders: Sequence[Path], first: int, seeds: int) -> str:
    """Run seeds until one fails, on packages in these folders; what was printed."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "dingrelay_simulation"),
            *(f"--seed={first}", f"--seeds={seeds}", "--most=1"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        cwd=folders[0],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate-mutations", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="which mutations; all that can be noticed if none is named"
    )
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many at most")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
