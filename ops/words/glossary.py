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
INSTEAD = {
    "anew": "again",
    "befalls": "happens to",
    "meanwhile": "since then, or name what happens at the same time",
    "nobody": "no person, no worker, no program",
    "somebody": "a person",
    "tells": "shows, says, reports",
    "told": "said, shown, given",
    "whoever": "the person who, the program that",
    "whom": "which people, to which people",
}


def main() -> int:
    """Print each use; 1 if there is any."""
    words = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
    listed = subprocess.check_output(["git", "ls-files", *FOLDERS], cwd=ROOT, text=True)
    uses = 0
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix not in KINDS or path == Path(__file__).resolve() or not path.is_file():
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for word in words.findall(line):
                uses += 1
                print(f"{name}:{number}: {word}: {INSTEAD[word.lower()]}")
    return int(uses > 0)


if __name__ == "__main__":
    sys.exit(main())
