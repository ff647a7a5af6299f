"""The figures of a run as a picture: bars in SVG, on a ground of its own, for light and dark."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from figures import number
from published import Published
from translations import Translations

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUND, TEXT, HINT, TRACK, PEER, OURS = (
    *("#ffffff", "#1f2328", "#59636e", "#f0f2f5", "#a5b0bc", "#0969da"),
)
DARK = {
    GROUND: "#0d1117",
    TEXT: "#f0f6fc",
    HINT: "#9198a1",
    TRACK: "#1b222b",
    PEER: "#57606a",
    OURS: "#4493f8",
}
"""Colour of the picture → the one that a reader with a dark page sees."""
FONTS = "system-ui, 'Segoe UI', 'PingFang SC', 'Microsoft YaHei', 'Noto Sans CJK SC', sans-serif"

WIDTH = 12.5
"""Inches of 72 pixels."""
COLUMNS = 2
LINE, HEAD, FOOT = 0.32, 0.75, 0.25
"""Inches that a bar takes, and those of a panel above and below its bars."""
LEFT, LONG = 0.43, 0.4
"""Where the bars of a panel begin, and how long the longest is, in widths of a panel."""
REPRODUCIBLE: dict[Any, Any] = {
    "svg.hashsalt": "dingrelay",
    "svg.fonttype": "none",
    "font.size": 12,
}
"""The same figures make the same file, and its texts stay texts: readers have the fonts."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure in a panel.

    Attributes:
        label: what stands before it.
        figure: letter of the measurement, number of the group, name.
        ours: whether it is drawn as ours.
        value: instead of a figure, where it follows from the set-up.
    """

    label: str
    figure: tuple[str, int, str] = ("", 0, "")
    ours: bool = False
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Some bars on one scale."""

    title: str
    hint: str
    unit: str
    bars: Sequence[Bar]


MORE, LESS = "longer is better", "shorter is better"
LIMITERS = {
    "a loop that sleeps 2 s": "a loop that sleeps 2 s",
    'Celery rate_limit="20/s"': 'Celery rate_limit="20/s"',
    "Celery and throttled-py": "throttled-py",
    "Celery and throttled-py, sliding window": "throttled-py, sliding",
}
"""Figure → label."""


def _limiters(group: int) -> list[Bar]:
    """Ours and the peers in one of the groups of A."""
    return [
        Bar("dingrelay", ("A", group, "calendar second"), ours=True),
        Bar("dingrelay, sliding", ("A", group, "sliding window"), ours=True),
        *(Bar(label, ("A", group, name)) for name, label in LIMITERS.items()),
    ]


PANELS = (
    Panel(
        "What gets through of 20 calls a second",
        MORE,
        "%",
        _limiters(0),
    ),
    Panel(
        "Answers refused for the rate",
        LESS,
        "%",
        _limiters(1),
    ),
    Panel(
        "Wait of an urgent message under a broadcast",
        LESS,
        "ms",
        [
            Bar("dingrelay, p50", ("D", 0, "p50"), ours=True),
            Bar("dingrelay, p99", ("D", 0, "p99"), ours=True),
            Bar("FIFO Celery, p50", ("D", 0, "first-in-first-out Celery, p50")),
            Bar("FIFO Celery, p99", ("D", 0, "first-in-first-out Celery, p99")),
        ],
    ),
    Panel(
        "People a second, one text as 20,000 jobs",
        MORE,
        "/s",
        [
            Bar("one by one", ("E", 0, "people a second"), ours=True),
            Bar("send_many", ("F", 0, "people a second"), ours=True),
            Bar("one call a job", value=20),
        ],
    ),
    Panel(
        "Worker CPU of a job",
        LESS,
        "ms",
        [
            Bar("dingrelay", ("G", 0, "dingrelay message-send"), ours=True),
            Bar("Celery no-op", ("G", 0, "Celery no-op, threads")),
            *(
                Bar(f"{name}, one POST", ("G", 0, f"{name}, one POST"))
                for name in ("Celery", "arq", "dramatiq", "taskiq")
            ),
        ],
    ),
    Panel(
        "Acquires of the limiter per CPU second",
        MORE,
        "",
        [
            Bar("dingrelay", ("H", 0, "dingrelay"), ours=True),
            *(
                Bar(name, ("H", 0, name))
                for name in (
                    "throttled-py fixed window",
                    "throttled-py token bucket",
                    "throttled-py GCRA",
                    "limits fixed window",
                    "limits sliding window",
                )
            ),
        ],
    ),
)


def chart(report: Published, words: Translations) -> str:
    """All panels of which a figure was measured, two beside each other."""
    shown = [(panel, bars) for panel in PANELS if (bars := _measured(panel, report))]
    lines = [shown[start : start + COLUMNS] for start in range(0, len(shown), COLUMNS)]
    heights = [max(len(bars) for _, bars in line) * LINE + HEAD + FOOT for line in lines]
    # It is large, and most of those who ask for the chart's words draw none.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure as Picture  # noqa: PLC0415

    with mpl.rc_context(REPRODUCIBLE):
        top = sum(heights)
        picture = Picture(figsize=(WIDTH, top), facecolor=GROUND)
        for line, height in zip(lines, heights, strict=True):
            top -= height
            for column, (panel, bars) in enumerate(line):
                tall = len(bars) * LINE
                place = (column + LEFT) / COLUMNS, (top + height - HEAD - tall) / sum(heights)
                axes = picture.add_axes((*place, LONG / COLUMNS, tall / sum(heights)))
                _draw(axes, panel, bars, words)
        drawn = BytesIO()
        with warnings.catch_warnings():
            # The library has no Chinese font to measure texts with; none is measured here.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            picture.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return _readable(drawn.getvalue().decode(), words.say("dingrelay beside its peers"))


def _measured(panel: Panel, report: Published) -> list[tuple[Bar, float]]:
    """The bars with their values; none where no figure was measured."""
    found: list[tuple[Bar, float]] = []
    for bar in panel.bars:
        figure = report.find(*bar.figure)
        value = bar.value if figure is None else figure.value
        if value is not None:
            found.append((bar, value))
    return found if any(bar.value is None for bar, _ in found) else []


def _draw(
    axes: "Axes", panel: Panel, bars: Sequence[tuple[Bar, float]], words: Translations
) -> None:
    longest = max(value for _, value in bars) or 1
    axes.axis("off")
    axes.set_xlim(0, longest)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    places = range(len(bars))
    axes.barh(places, [longest] * len(bars), height=0.6, color=TRACK)
    colours = [OURS if bar.ours else PEER for bar, _ in bars]
    axes.barh(places, [value for _, value in bars], height=0.6, color=colours)
    left = -(LEFT - 0.06) / LONG * longest
    axes.text(left, -1.55, words.say(panel.title), color=TEXT, fontsize=14, weight="bold")
    axes.text(left, -0.9, words.say(panel.hint), color=HINT, fontsize=11)
    for place, (bar, value) in enumerate(bars):
        weight = "bold" if bar.ours else "normal"
        label, figure = words.say(bar.label), f"{number(value)} {words.say(panel.unit)}".strip()
        for x, text, side in ((-0.03, label, "right"), (1.03, figure, "left")):
            axes.text(
                x * longest, place, text, ha=side, va="center_baseline", color=TEXT, weight=weight
            )


def _readable(svg: str, title: str) -> str:
    """The picture with its title, in fonts that readers have, and in colours for dark pages."""
    rules = "".join(f'[style*="{light}"]{{fill:{dark} !important}}' for light, dark in DARK.items())
    head = f"<title>{escape(title)}</title><style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    svg = re.sub(r'font-family: [^;"]+', f"font-family: {FONTS}", svg)
    return re.sub(
        r"^.*?(<svg [^>]*>).*?</metadata>", rf"\1\n {head}", svg, count=1, flags=re.DOTALL
    )
