"""Refuse words that the project does not use: ``python ops/words/glossary.py``, a part of ``make check``.

Each has a plain one in its place, so that a reader needs one word for one thing.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = {".py", ".lua", ".md", ".toml", ".yml", ".po"}
WORDS = {
    "instead.txt": ("tasks", "producers", "workers", "ops", "tests"),
    "instead.zh-CN.txt": ("*.zh-CN.md", "*/zh-CN/*.md", "*.po", "ops/bench/zh-CN.toml"),
}
"""Files of words, each with what stands in its place → where they are looked for."""


def main() -> int:
    """Print each use; 1 if there is any."""
    return int(sum(_print_uses(file, places) for file, places in WORDS.items()) > 0)


def _print_uses(file: str, places: Sequence[str]) -> int:
    lines = Path(__file__).with_name(file).read_text("utf-8").splitlines()
    instead = dict(line.split(": ", 1) for line in lines)
    words = re.compile(rf"(?<!\w)(?:{'|'.join(instead)})(?!\w)", re.IGNORECASE | re.ASCII)
    listed = subprocess.check_output(["git", "ls-files", *places], cwd=ROOT, text=True)
    uses = 0
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix not in KINDS or not path.is_file():
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for word in words.findall(line):
                uses += 1
                print(f"{name}:{number}: {word}: {instead[word.lower()]}")
    return uses


if __name__ == "__main__":
    sys.exit(main())
