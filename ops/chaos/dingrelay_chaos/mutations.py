"""Mends, taken out again one by one: chaos must notice each of them.

A mutation replaces a text of one source file in a copy of the source tree. It is kept as text, not
as a patch of objects, so that it can be about Lua, too, and reads like the diff of a bad change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The top of the source tree."""
PACKAGES = (
    "tasks/dingrelay_tasks",
    "producers/dingrelay_producers",
    "workers/dingrelay_workers",
    "ops/sandbox/dingrelay_sandbox",
    "ops/chaos/dingrelay_chaos",
)
"""What a run needs of the source tree."""


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
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    only: Sequence[str] = ()

    @property
    def applies(self) -> bool:
        """Whether the source still has the text, once."""
        return (ROOT / self.file).read_text("utf-8").count(self.old) == 1

    def apply(self, tree: Path) -> None:
        """Replace the text in a copy of the tree.

        Raises:
            ValueError: the source has changed, and the mutation has to follow it.
        """
        path = tree / self.file
        text = path.read_text("utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its text is not in {self.file} exactly once")
        path.write_text(text.replace(self.old, self.new), "utf-8")


MUTATIONS: tuple[Mutation, ...] = ()
