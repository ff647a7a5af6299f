"""What the documents say about figures, made from ``docs/bench.json``, which it brings into its form.

``python ops/bench/document.py [--check]``: in each language the key figures in the README, what a
system carries in the guide, all of them on a page of their own, and the chart; with ``--check`` writes
nothing, names what differs and ends with 1.
"""

import argparse
import json
import sys
from pathlib import Path

from chart import chart
from published import PUBLISHED, ROOT, Published, written
from table import origin, table, when
from translations import LANGUAGES, Translations

BEGIN = "<!-- made by `make bench-docs` from docs/bench.json -->"
END = "<!-- /made -->"
KEY_FIGURES = {
    "A": ("limit used, 5–30 ms away", "answers refused, 5–30 ms away"),
    "D": ("urgent under a broadcast",),
    "E": ("20,000 equal texts, one by one",),
    "G": ("worker CPU of a job",),
    "Q": ("campaign under 20 kills",),
}
"""What the READMEs show: the letter of a measurement → groups of its figures."""
CAPACITY = {
    "X": ("a message in Redis and in a worker",),
    "Y": ("jobs enqueued a second, one thread", "100,000 jobs that wait"),
}
"""What the guide shows of how much a system carries."""


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
    content = written(json.loads(PUBLISHED.read_text("utf-8")))
    report = Published.from_json(json.loads(content))
    made = {PUBLISHED: content}
    for words in LANGUAGES:
        for name, block in {words.readme: key_figures, words.page: all_figures}.items():
            path = ROOT / name
            made[path] = replaced(path.read_text("utf-8"), block(report, words))
        guide = ROOT / words.guide
        made[guide] = replaced(guide.read_text("utf-8"), table(report, words, CAPACITY))
        made[ROOT / "docs" / words.chart] = chart(report, words)
    return made


def key_figures(report: Published, words: Translations) -> str:
    """What stands between the marks of a README."""
    picture = f"![{words.say('dingrelay beside its peers')}](docs/{words.chart})"
    more = f"{words.say('All figures, with notes')}{words.say(': ')}[{words.page}]({words.page})"
    return "\n\n".join(
        [picture, table(report, words, KEY_FIGURES), f"{when(report, words)} {more}"]
    )


def all_figures(report: Published, words: Translations) -> str:
    """What stands between the marks of the page beside the chart."""
    picture = f"![{words.say('dingrelay beside its peers')}]({words.chart})"
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
