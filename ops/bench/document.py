"""What the documents say about figures, made from ``docs/bench.json``, which it brings into its form.

In each language: the key figures in the README, what a system carries in the guide, all of them on a page of
their own, and the chart.
"""

import json
from pathlib import Path

from chart import chart
from published import PUBLISHED, ROOT, Published, written
from table import origin, table
from translations import LANGUAGES, Translations

BEGIN = "<!-- made by `make bench-docs` from docs/bench.json -->"
END = "<!-- /made -->"
KEY_FIGURES = {
    "A": ("limit used, 5–30 ms away, calendar second",),
    "D": ("urgent under a broadcast, p99",),
    "Q": ("campaign under 20 kills, not exactly once",),
}
"""What the READMEs show: the letter of a measurement → its figures."""
CAPACITY = {
    "X": ("a message in Redis and in a worker",),
    "Y": ("jobs enqueued a second, one thread", "100,000 jobs that wait"),
}
"""What the guide shows of how much a system carries."""


def main() -> None:
    """Write what differs, and name it."""
    for path, text in documents().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(ROOT)}: made")


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
        [picture, table(report, words, KEY_FIGURES), f"{origin(report, words)} {more}"]
    )


def all_figures(report: Published, words: Translations) -> str:
    """What stands between the marks of the page beside the chart."""
    picture = f"![{words.say('dingrelay beside its peers')}]({words.chart})"
    return "\n\n".join([picture, table(report, words), origin(report, words, whole=True)])


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


if __name__ == "__main__":
    main()
