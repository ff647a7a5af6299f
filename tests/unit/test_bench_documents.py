"""The documents' benchmarks equal the measured ones."""

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from chart import COLOURS, PANELS, chart
from document import BEGIN, END, KEY_FIGURES, documents, replaced, table
from figures import Figure, percentile
from report import PUBLISHED, Published, added, written
from translations import LANGUAGES

ENGLISH, CHINESE_README = LANGUAGES
SVG = "{http://www.w3.org/2000/svg}"


def report(**groups: list[Figure]) -> Published:
    """A report of these measurements, through JSON as a real one."""
    content: dict[str, Any] = {
        "measurements": [
            {"letter": letter, "figures": [figure.to_json() for figure in figures]}
            for letter, figures in groups.items()
        ]
    }
    return Published(json.loads(json.dumps(content)))


def limit_used() -> list[Figure]:
    group = "limit used, 5–30 ms away"
    return [
        Figure(group, "calendar second", 98.44, "%", at_least=98),
        Figure(group, "sliding window", 91.5, "%", at_least=95),
        Figure(group, "a loop that sleeps 2 s", 48, "%"),
        Figure("answers refused, 5–30 ms away", "calendar second", 0.1, "%", at_most=0.3),
    ]


def test_documents_hold_what_the_last_published_run_measured() -> None:
    for path, text in documents().items():
        assert path.read_text("utf-8") == text, f"{path.name}: run `make bench-docs`"


def test_the_published_run_names_machine_versions_command_and_date() -> None:
    about = Published.read().about
    machine = about["machine"]
    assert machine["cpu"]
    assert machine["cores"] > 0
    assert machine["memory_gb"] > 0
    assert len(machine["load_at_start"]) == 3
    assert {"python", "celery", "redis", "arq", "dramatiq", "taskiq"} <= about["versions"].keys()
    assert "ops/bench/run.py" in about["command"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", about["date"])
    measured = json.loads(PUBLISHED.read_text("utf-8"))["measurements"]
    assert all(each["seconds"] > 0 and each["figures"] for each in measured)


def test_the_table_has_a_line_for_each_bound_and_the_others_beside_the_first() -> None:
    lines = table(report(A=limit_used()), ENGLISH).splitlines()[2:]
    group = "limit used, 5–30 ms away"
    assert lines == [
        f"| A | {group}, calendar second | **98.4 %** | ≥ 98 ✓ | a loop that sleeps 2 s: 48 % |",
        f"| A | {group}, sliding window | **91.5 %** | ≥ 95 ✗ |  |",
        "| A | answers refused, 5–30 ms away, calendar second | **0.1 %** | ≤ 0.3 ✓ |  |",
    ]


def test_a_part_of_the_table_holds_the_groups_that_are_named() -> None:
    only = {"A": ["answers refused, 5–30 ms away"]}
    lines = table(report(A=limit_used(), B=limit_used()), ENGLISH, only).splitlines()[2:]
    assert lines == [
        "| A | answers refused, 5–30 ms away, calendar second | **0.1 %** | ≤ 0.3 ✓ |  |"
    ]


def test_a_part_of_the_table_may_be_one_figure() -> None:
    only = {"A": ["limit used, 5–30 ms away, calendar second"]}
    [line] = table(report(A=limit_used()), ENGLISH, only).splitlines()[2:]
    assert line.startswith("| A | limit used, 5–30 ms away, calendar second | **98.4 %**")


def test_every_key_figure_was_measured() -> None:
    groups = Published.read().groups
    for letter, names in KEY_FIGURES.items():
        known = {f"{each.group}, {each.name}" for members in groups[letter] for each in members}
        assert set(names) <= known


def widths(drawing: ET.Element, *kinds: str) -> list[float]:
    """How long the bars of these classes are, in the order in which they are drawn."""
    bars = (each.attrib for each in drawing.iter(f"{SVG}rect"))
    return [float(bar["width"]) for bar in bars if bar["class"] in kinds]


def test_the_chart_draws_on_one_scale_and_leaves_out_what_was_not_measured() -> None:
    drawing = ET.fromstring(chart(report(A=limit_used()), ENGLISH))
    ours, sliding, loop, refused = widths(drawing, "ours", "peer")
    assert {ours} == set(widths(drawing, "track")), "the longest bar fills its track"
    assert sliding / ours == pytest.approx(91.5 / 98.44, rel=0.01)
    assert loop / ours == pytest.approx(48 / 98.44, rel=0.01)
    assert refused == ours, "a panel has a scale of its own"
    texts = [each.text for each in drawing.iter(f"{SVG}text")]
    titles = [text for text in texts if text in {panel["title"] for panel in PANELS}]
    assert titles == [panel["title"] for panel in PANELS[:2]]


def test_the_chart_has_its_title_and_a_light_and_a_dark_colour_for_each_class() -> None:
    root = ET.fromstring(chart(Published.read(), CHINESE_README))
    assert root.findtext(f"{SVG}title") == "dingrelay 与同类方案"
    used = {name for each in root.iter() for name in each.get("class", "").split()}
    style = root.findtext(f"{SVG}style") or ""
    assert used - {"title", "bold"} == COLOURS.keys()
    assert all(style.count(f".{name}{{fill:") == 2 for name in COLOURS)


def test_only_what_is_between_the_marks_is_replaced() -> None:
    before = f"# One\n\n{BEGIN}\n\nold\n\n{END}\n\n## Two\n"
    after = replaced(before, "new")
    assert after == before.replace("old", "new")
    assert replaced(after, "new") == after


@pytest.mark.parametrize(
    "text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"]
)
def test_a_document_without_both_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="there must be one"):
        replaced(text, "new")


@pytest.mark.parametrize(
    ("value", "holds"), [(0.94, False), (0.95, True), (1.05, True), (1.06, False)]
)
def test_a_figure_holds_within_its_bounds(value: float, holds: bool) -> None:
    assert Figure("group", "name", value, at_least=0.95, at_most=1.05).holds is holds


def test_a_percentile_lies_where_so_many_percent_of_the_values_are_below() -> None:
    waits = [float(value) for value in range(101)]
    assert [percentile(waits[::-1], part) for part in (50, 99)] == [50, 99]


def a_run(**letters: float) -> dict[str, Any]:
    machine = {"cpu": "c", "cores": 2, "memory_gb": 23.0, "kernel": "k", "load_at_start": [0.1]}
    measured = [
        {"letter": letter, "seconds": seconds, "date": "d", "figures": []}
        for letter, seconds in letters.items()
    ]
    return {
        "command": "c",
        "date": "d",
        "machine": machine,
        "versions": {"redis": "8"},
        "measurements": measured,
    }


def test_later_measurements_are_added_to_the_run_before() -> None:
    run = json.loads(written(added(a_run(C=1, A=2, Z=9), a_run(C=3, D=4))))
    assert [(each["letter"], each["seconds"]) for each in run["measurements"]] == [
        ("A", 2),
        ("C", 3),
        ("D", 4),
    ], "and Z is measured no more"
    assert run["seconds"] == 9
    other = a_run(C=4)
    other["versions"]["redis"] = "9"
    with pytest.raises(ValueError, match="other versions"):
        added(a_run(A=1), other)
