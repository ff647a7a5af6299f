"""Refuse words that the project does not use: ``python ops/words/glossary.py``, a part of ``make check``.

Each has a plain one in its place, so that a reader needs one word for one thing.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("tasks", "producers", "workers", "ops", "tests")
KINDS = {".py", ".lua", ".md", ".toml", ".yml", ".po"}
INSTEAD = Path(__file__).with_name("instead.txt")
"""Each word, and what stands in its place."""


def main() -> int:
    """Print each use; 1 if there is any."""
    instead = dict(line.split(": ", 1) for line in INSTEAD.read_text("utf-8").splitlines())
    words = re.compile(rf"\b({'|'.join(instead)})\b", re.IGNORECASE)
    listed = subprocess.check_output(["git", "ls-files", *FOLDERS], cwd=ROOT, text=True)
    uses = 0
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix not in KINDS or not path.is_file():
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for word in words.findall(line):
                uses += 1
                print(f"{name}:{number}: {word}: {instead[word.lower()]}")
    return int(uses > 0)


if __name__ == "__main__":
    sys.exit(main())
