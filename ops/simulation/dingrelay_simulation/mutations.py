"""``python -m dingrelay_simulation.mutations``: behaviours taken out one by one; plain seeds must notice each of them.

A mutation replaces a text of one source file in a copy of the source tree, and seeds are run on the copy
until one fails. The same seed must hold on the source as it is. A mutation is text, not a patch of
objects, so that it can be about Lua, too, and reads like the diff of a bad change; all are in ``mutations.toml``.

A seed that never comes to the behaviour runs as on the source. So all seeds are run once on a copy with a mark at each
behaviour that has one (``reached``), and each mutation only on those that came to its mark.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dingrelay_simulation import reached

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
COPIED = (*PACKAGES, "ops/simulation/dingrelay_simulation")
_VIOLATION = re.compile(r"^seed (\d+): (.*)$", re.MULTILINE)
_REACHED = re.compile(r"^seed (\d+) reached (.*)$", re.MULTILINE)


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
        reached: what stands there in a source with marks: the same behaviour, and where it matters the word `REACHED`.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    only: Sequence[str] = ()
    first: int = 1
    unseen: str = ""
    reached: str = ""

    @property
    def applies(self) -> bool:
        """Whether the source still has the text, once."""
        return (ROOT / self.file).read_text("utf-8").count(self.old) == 1

    def apply(self, tree: Path) -> None:
        """Replace the text in a copy of the tree.

        Raises:
            ValueError: the source has changed, and the mutation has to follow it.
        """
        self._replace(tree, self.new)

    def mark(self, tree: Path) -> None:
        """Note in a copy of the tree when the behaviour matters, and leave it as it is.

        Raises:
            ValueError: likewise.
        """
        mark = reached.LUA if self.file.endswith(".lua") else reached.PYTHON
        self._replace(tree, self.reached.replace("REACHED", mark.replace("NAME", self.name)))

    def _replace(self, tree: Path, new: str) -> None:
        if not self.applies:
            raise ValueError(f"{self.name}: its text is not in {self.file} exactly once")
        path = tree / self.file
        path.write_text(path.read_text("utf-8").replace(self.old, new), "utf-8")


with (ROOT / "ops/simulation/mutations.toml").open("rb") as _file:
    MUTATIONS = tuple(Mutation(**mutation) for mutation in tomllib.load(_file)["mutation"])


def copy_tree(tree: Path, packages: Sequence[str]) -> list[Path]:
    """Copy packages of the source; the folders by which they are imported."""
    for package in packages:
        shutil.copytree(ROOT / package, tree / package)  # with what Python has compiled
    return [tree / Path(package).parent for package in packages]


def main() -> int:
    """Try the mutations; 1 if one is not noticed."""
    options = _options()
    seen = [mutation.name for mutation in MUTATIONS if not mutation.unseen]
    names = options.names or seen
    seeds = _reaching_seeds(options, names)
    return try_mutations(MUTATIONS, names, options.jobs, partial(_is_noticed, seeds))


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


def _reaching_seeds(options: argparse.Namespace, names: Collection[str]) -> dict[str, list[int]]:
    """Mutation → the seeds that can notice it; all of them for one without a mark."""
    seeds = list(range(options.seed, options.seed + options.seeds))
    marked = [one for one in MUTATIONS if one.name in names and one.reached]
    reaching: dict[str, list[int]] = dict.fromkeys(names, seeds)
    if marked:
        reaching |= {mutation.name: list[int]() for mutation in marked}
        with _copied_tree() as (tree, folders):
            for mutation in marked:
                mutation.mark(tree)
            ran = _run_seeds(folders, seeds, most=len(seeds))
        for seed, reached_names in _REACHED.findall(ran):
            for name in reached_names.split():
                reaching[name].append(int(seed))
    return reaching


def _is_noticed(reaching: Mapping[str, Sequence[int]], mutation: Mutation) -> bool:
    name, seeds = mutation.name, reaching[mutation.name]
    if not seeds:
        print(f"{name}: not noticed, since no seed comes to it", flush=True)
        return False
    with _copied_tree() as (tree, folders):
        mutation.apply(tree)
        ran = _run_seeds(folders, seeds)
    violation = _VIOLATION.search(ran)
    if violation is None:
        print(f"{name}: not noticed in {len(seeds)} seeds; {ran[-SHOWN:]!r}", flush=True)
        return False
    seed, text = int(violation[1]), violation[2][:SHOWN]
    clean = _run_seeds([ROOT / Path(package).parent for package in COPIED], [seed])
    holds = "1 seeds, 0 failed" in clean
    word = "seed" if holds else "BUT the source fails, too, at seed"
    print(f"{name}: noticed by {word} {seed}: {text}", flush=True)
    return holds


@contextmanager
def _copied_tree() -> Generator[tuple[Path, list[Path]]]:
    """A copy of the source, and the folders by which it is imported."""
    with tempfile.TemporaryDirectory(prefix="dingrelay-mutant-") as name:
        yield Path(name), copy_tree(Path(name), COPIED)


def _run_seeds(folders: Sequence[Path], seeds: Sequence[int], *, most: int = 1) -> str:
    """Run seeds until so many have failed, on packages in these folders; what was printed."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "dingrelay_simulation"),
            *(f"--most={most}", "--only", *map(str, seeds)),
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
