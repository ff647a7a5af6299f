"""What chaos makes of changes of people, and of what was reported of them."""

import json
from typing import Any

import pytest

from dingrelay_chaos.invariants.changes import violations

OPENED, MIDST, LAST = (f"2026-01-01T00:00:{second:02}+00:00" for second in (0, 5, 10))


def row(event: str, *fields: str) -> dict[str, Any]:
    """What a run found out of a person, the last of it at `LAST`."""
    found = {"userid": "u1", "event": event, "fields": json.dumps(fields)}
    return {**found, "opened_at": OPENED, "at": LAST}


def notice(what: str, at: str, *changed: str, name: str = "A") -> dict[str, Any]:
    data = {"userid": "u1", "name": name, **({"changed": [*changed]} if changed else {})}
    return {"type": f"directory.user.{what}", "at": at, "data": data}


NAME = notice("changed", LAST, "name")
ADDED, LEFT = notice("added", LAST), notice("left", LAST)


@pytest.mark.parametrize(
    ("found", "notices"),
    [
        (row("changed", "name"), [NAME]),
        (row("changed", "name"), [notice("changed", MIDST, "name", name="B"), NAME]),
        (row("changed", "name", "title"), [notice("changed", MIDST, "title"), NAME]),
        (row("added"), [ADDED]),
        (row("added"), [notice("added", MIDST), NAME]),
        (row("left"), [notice("added", MIDST), LEFT]),
        (row("left"), [notice("changed", MIDST, "name"), LEFT]),
        (row("gone"), []),
    ],
)
def test_notices_that_match_what_a_run_found_pass(
    found: dict[str, Any], notices: list[dict[str, Any]]
) -> None:
    assert not list(violations([found], notices, 0))


@pytest.mark.parametrize(
    ("found", "notices"),
    [
        (row("changed", "name"), []),
        (row("changed", "name"), [NAME, NAME]),
        (row("changed", "name"), [notice("changed", MIDST, "name"), NAME]),
        (row("changed", "name", "title"), [NAME]),
        (row("added"), [ADDED, ADDED]),
        (row("added"), [notice("added", MIDST), ADDED]),
        (row("added"), [NAME]),
        (row("left"), [LEFT, LEFT]),
        (row("left"), [notice("left", MIDST), LEFT]),
        (row("gone"), [NAME, NAME]),
    ],
)
def test_notices_that_are_missing_or_repeated_are_found(
    found: dict[str, Any], notices: list[dict[str, Any]]
) -> None:
    assert len(list(violations([found], notices, 0))) == 1
