"""What the READMEs say about figures, made from ``docs/bench.json``.

``python ops/bench/document.py [--check]``: writes both READMEs and both charts; with ``--check``
writes nothing, names what differs and ends with 1.
"""

import argparse
import sys
from pathlib import Path

from chart import chart
from published import ROOT, Published
from table import origin, table
from words import LANGUAGES, Words

BEGIN = "<!-- made by `make bench-docs` from docs/bench.json -->"
END = "<!-- /made -->"


def main() -> int:
    """Write what differs, or name it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = {path: text for path, text in documents().items() if _content(path) != text}
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT)}: {'differs, run `make bench-docs`' if check else 'made'}")
        if not check:
            path.write_text(text, "utf-8")
    return 1 if check and stale else 0


def documents() -> dict[Path, str]:
    """Every document and what it should hold."""
    report = Published.read()
    made: dict[Path, str] = {}
    for words in LANGUAGES:
        readme = ROOT / words.readme
        made[readme] = replaced(readme.read_text("utf-8"), block(report, words))
        made[ROOT / "docs" / words.chart] = chart(report, words)
    return made


def block(report: Published, words: Words) -> str:
    """What stands between the marks."""
    picture = f"![{words.say('dingrelay beside its peers')}](docs/{words.chart})"
    return "\n\n".join([picture, table(report, words), origin(report, words)])


def replaced(text: str, block: str) -> str:
    """A document with another block between its marks.

    Raises:
        ValueError: the marks are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"there must be one {BEGIN} and one {END} behind it")
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def _content(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
