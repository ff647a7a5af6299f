"""The figures of a run as a picture: bars in SVG, on a ground of its own, for light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from figures import number
from published import Published
from translations import Translations

STYLE = """
  .ground { fill: #ffffff; stroke: #d1d9e0 }
  text { font: 12px system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei",
    "Noto Sans CJK SC", sans-serif; fill: #1f2328 }
  .title { font-size: 14px; font-weight: 600 }
  .hint { font-size: 11px; fill: #59636e }
  .ours { font-weight: 600 }
  .track { fill: #f0f2f5 }
  .bar { fill: #a5b0bc }
  .bar.ours { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d }
    text { fill: #f0f6fc }
    .hint { fill: #9198a1 }
    .track { fill: #1b222b }
    .bar { fill: #59636e }
    .bar.ours { fill: #4493f8 }
  }
"""

WIDTH, MARGIN, GAP = 900, 26, 34
COLUMNS = 2
PANEL = (WIDTH - 2 * MARGIN - GAP) // COLUMNS
LABEL, VALUE = 172, 70
"""Width of what is before a bar, and of what is behind it."""
HEAD, LINE, BAR = 50, 23, 14
"""Height of a panel's head, of one of its lines, and of a bar."""


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
    y, parts = MARGIN, list[str]()
    for start in range(0, len(shown), COLUMNS):
        line = shown[start : start + COLUMNS]
        for column, (panel, bars) in enumerate(line):
            parts += _panel(panel, bars, MARGIN + column * (PANEL + GAP), y, words)
        y += HEAD + LINE * max(len(bars) for _, bars in line) + GAP
    height = y - GAP + MARGIN
    title = escape(words.say("dingrelay beside its peers"))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        _rect("ground", 0.5, 0.5, WIDTH - 1, height - 1, radius=10),
    ]
    return "\n".join([*head, *parts, "</svg>\n"])


def _measured(panel: Panel, report: Published) -> list[tuple[Bar, float]]:
    """The bars with their values; none where no figure was measured."""
    found: list[tuple[Bar, float]] = []
    for bar in panel.bars:
        figure = report.find(*bar.figure)
        value = bar.value if figure is None else figure.value
        if value is not None:
            found.append((bar, value))
    return found if any(bar.value is None for bar, _ in found) else []


def _panel(
    panel: Panel, bars: Sequence[tuple[Bar, float]], x: float, y: float, words: Translations
) -> list[str]:
    say = words.say
    parts = [
        _text(x, y + 13, say(panel.title), "title"),
        _text(x, y + 31, say(panel.hint), "hint"),
    ]
    longest = max(value for _, value in bars) or 1
    room = PANEL - LABEL - VALUE
    for line, (bar, value) in enumerate(bars):
        left, top = x + LABEL, y + HEAD + line * LINE
        base = top + BAR - 2.5
        kind = "ours" if bar.ours else ""
        text = f"{number(value)} {say(panel.unit)}".strip()
        parts += [
            _text(left - 10, base, say(bar.label), kind, end=True),
            _rect("track", left, top, room, BAR),
            _rect(
                f"bar {kind}".strip(),
                left,
                top,
                max(1.5 * bool(value), room * value / longest),
                BAR,
            ),
            _text(left + room + 8, base, text, kind),
        ]
    return parts


def _rect(kind: str, x: float, y: float, width: float, height: float, *, radius: float = 3) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:.4g}" height="{height:g}" rx="{radius:g}"'
    return f'<rect class="{kind}" {place}/>'


def _text(x: float, y: float, text: str, kind: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{escape(text)}</text>'
