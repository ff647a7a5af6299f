"""What chaos excuses in campaigns whose people got more than 500 messages a day."""

from types import SimpleNamespace
from typing import Any

import pytest

from dingrelay_chaos.invariants.campaigns import _people
from dingrelay_chaos.snapshot import TOO_MANY_A_DAY, text_of


def entry(text: str, reason: str) -> dict[str, Any]:
    message = {"text": {"content": text}}
    return {"user": "u1", "message": message, "reason": reason, "call_id": "c1"}


@pytest.mark.parametrize(
    ("outcome", "entries", "excused"),
    [
        ("accepted", [entry("campaign 1", TOO_MANY_A_DAY)], True),
        ("duplicate", [entry("campaign 1", TOO_MANY_A_DAY)], True),
        ("accepted", [entry("another", TOO_MANY_A_DAY)], False),
        ("cancelled", [entry("campaign 1", ""), entry("another", TOO_MANY_A_DAY)], False),
    ],
)
def test_only_the_message_that_was_dropped_is_excused(
    outcome: str, entries: list[dict[str, Any]], *, excused: bool
) -> None:
    snapshot = SimpleNamespace(entries=entries, received=lambda user: 500)
    beyond = {(text_of(each), "u1") for each in entries if each["reason"]}
    evidence: Any = SimpleNamespace(snapshot=snapshot, uncounted=set(), beyond_the_day=beyond)
    request: Any = SimpleNamespace(campaign="c", users=["u1"], tag="campaign 1")
    report: Any = SimpleNamespace(people=[{"userid": "u1", "outcome": outcome}])
    assert (not list(_people(evidence, request, report))) is excused
