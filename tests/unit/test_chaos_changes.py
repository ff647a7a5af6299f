"""What the judge of the chaos test makes of changes of people, and of what was told of them."""

import json
from typing import Any

import pytest

from dingrelay_chaos.invariants.changes import violations

OPENED, MIDST, LAST = (f"2026-01-01T00:00:{second:02}+00:00" for second in (0, 5, 10))


def row(event: str, *fields: str) -> dict[str, Any]:
    """What a run found out of somebody, the last of it at `LAST`."""
    found = {"userid": "u1", "event": event, "fields": json.dumps(fields)}
    return {**found, "opened_at": OPENED, "at": LAST}


def told(what: str, at: str, *changed: str, name: str = "A") -> dict[str, Any]:
    data = {"userid": "u1", "name": name, **({"changed": [*changed]} if changed else {})}
    return {"type": f"directory.user.{what}", "at": at, "data": data}


NAME = told("changed", LAST, "name")
ADDED, LEFT = told("added", LAST), told("left", LAST)


@pytest.mark.parametrize(
    ("found", "notices"),
    [
        (row("changed", "name"), [NAME]),
        (row("changed", "name"), [told("changed", MIDST, "name", name="B"), NAME]),
        (row("changed", "name", "title"), [told("changed", MIDST, "title"), NAME]),
        (row("added"), [ADDED]),
        (row("added"), [told("added", MIDST), NAME]),
        (row("left"), [told("added", MIDST), LEFT]),
        (row("left"), [told("changed", MIDST, "name"), LEFT]),
        (row("gone"), []),
    ],
)
def test_what_a_run_found_may_be_told_so(
    found: dict[str, Any], notices: list[dict[str, Any]]
) -> None:
    assert not list(violations([found], notices, 0))


@pytest.mark.parametrize(
    ("found", "notices"),
    [
        (row("changed", "name"), []),
        (row("changed", "name"), [NAME, NAME]),
        (row("changed", "name"), [told("changed", MIDST, "name"), NAME]),
        (row("changed", "name", "title"), [NAME]),
        (row("added"), [ADDED, ADDED]),
        (row("added"), [told("added", MIDST), ADDED]),
        (row("added"), [NAME]),
        (row("left"), [LEFT, LEFT]),
        (row("left"), [told("left", MIDST), LEFT]),
        (row("gone"), [NAME, NAME]),
    ],
)
def test_what_is_told_twice_or_not_at_all_is_seen(
    found: dict[str, Any], notices: list[dict[str, Any]]
) -> None:
    assert len(list(violations([found], notices, 0))) == 1
