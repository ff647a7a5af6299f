"""The figures of a run as a picture: bars in SVG, on a ground of its own, for light and dark."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from figures import number
from report import Published
from translations import Translations

COLOURS = {
    "ground": ("#ffffff", "#0d1117"),
    "text": ("#1f2328", "#f0f6fc"),
    "hint": ("#59636e", "#9198a1"),
    "track": ("#f0f2f5", "#1b222b"),
    "peer": ("#a5b0bc", "#57606a"),
    "ours": ("#0969da", "#4493f8"),
}
"""Class → its colour on a light page and on a dark one."""
FONTS = "system-ui, 'Segoe UI', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif"

WIDTH, COLUMNS = 900, 2
"""Pixels, and panels beside each other."""
LINE, HEAD, FOOT = 23, 54, 18
"""Pixels that a bar takes, and those of a panel above and below its bars."""
LEFT, LONG, TALL = 193, 180, 14
"""Left edge of the bars of a panel, length of the longest, height of each."""


Table = dict[str, Any]
PANELS: list[Table] = tomllib.loads(Path(__file__).with_name("chart.toml").read_text("utf-8"))[
    "panel"
]
"""Each with a title, a hint, a unit and bars on one scale.

A bar has a label and its figure: letter of the measurement, number of the group, name. It has a value instead
where that follows from the set-up, and may be drawn as ours.
"""


def chart(report: Published, words: Translations) -> str:
    """All panels of which a figure was measured, two beside each other."""
    shown = [(panel, bars) for panel in PANELS if (bars := _measured(panel, report))]
    drawn: list[str] = []
    top = 0
    for start in range(0, len(shown), COLUMNS):
        beside = shown[start : start + COLUMNS]
        for column, (panel, bars) in enumerate(beside):
            drawn += _panel(panel, bars, column * WIDTH // COLUMNS, top, words)
        top += HEAD + FOOT + LINE * max(len(bars) for _, bars in beside)
    light, dark = (
        "".join(f".{name}{{fill:{pair[page]}}}" for name, pair in COLOURS.items())
        for page in (0, 1)
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}">',
        f"<title>{escape(words.say('dingrelay beside its peers'))}</title>",
        f"<style>text{{font:12px {FONTS}}}.title{{font-size:14px}}.title,.bold{{font-weight:bold}}",
        f"{light}@media (prefers-color-scheme: dark){{{dark}}}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{top}"/>',
        *drawn,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _measured(panel: Table, report: Published) -> list[tuple[Table, float]]:
    """The bars with their values; none where no figure was measured."""
    found: list[tuple[Table, float]] = []
    for bar in panel["bars"]:
        figure = report.find(*bar["figure"]) if "figure" in bar else None
        value = figure.value if figure else bar.get("value")
        if value is not None:
            found.append((bar, value))
    return found if any("value" not in bar for bar, _ in found) else []


def _panel(
    panel: Table, bars: Sequence[tuple[Table, float]], left: int, top: int, words: Translations
) -> list[str]:
    """Title and hint, and each bar with its label and figure on a line."""
    longest = max(value for _, value in bars) or 1
    start, y = left + LEFT, top + HEAD
    title, hint = escape(words.say(panel["title"])), escape(words.say(panel["hint"]))
    drawn = [
        f'<text class="text title" x="{left + 28}" y="{top + 22}">{title}</text>',
        f'<text class="hint" x="{left + 28}" y="{top + 40}">{hint}</text>',
    ]
    for bar, value in bars:
        ours = bar.get("ours", False)
        weight = "text bold" if ours else "text"
        figure = f"{number(value)} {words.say(panel['unit'])}".strip()
        rect = f'x="{start}" y="{y}" height="{TALL}"'
        drawn.append(
            f'<text class="{weight}" x="{start - 6}" y="{y + 11}" text-anchor="end">'
            f"{escape(words.say(bar['label']))}</text>"
            f'<rect class="track" {rect} width="{LONG}"/>'
            f'<rect class="{"ours" if ours else "peer"}" {rect} width="{value / longest * LONG:.1f}"/>'
            f'<text class="{weight}" x="{start + LONG + 6}" y="{y + 11}">{escape(figure)}</text>'
        )
        y += LINE
    return drawn
