"""What chaos calls a day, and what it excuses of messages beyond a person's 500 of it."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from dingrelay_chaos.evidence import Evidence
from dingrelay_chaos.requests import MessageRequest, Requests
from dingrelay_chaos.snapshot import TOO_MANY_A_DAY, Snapshot

MIDNIGHT = datetime(2026, 11, 26, 16, tzinfo=UTC).timestamp()
"""Of Beijing."""


def entry(content: str, reason: str = "", at: float = MIDNIGHT + 3) -> Any:
    message = {"text": {"content": content}}
    return {"user": "u1", "at": at, "message": message, "reason": reason, "call_id": 1}


def snapshot_of(entries: list[Any]) -> Snapshot:
    nothing: Any = None
    return Snapshot(entries, [], [], nothing, {}, {}, [])


def excused(messages: list[MessageRequest], entries: list[Any]) -> set[str]:
    """The contents that a person may have missed in silence."""
    snapshot = snapshot_of(entries)
    schedule: Any = SimpleNamespace(setting=SimpleNamespace(recipients="5000/60s"))
    fields: dict[str, Any] = dict.fromkeys(Evidence.__dataclass_fields__)
    fields |= {"schedule": schedule, "requests": Requests(messages=messages), "lost": []}
    fields["snapshot"] = snapshot
    found = Evidence(**fields)
    for content in {each.content for each in messages}:
        assert found.unreachable(content, "u1") is ((content, "u1") in found.beyond_the_day)
    return {content for content, _ in found.beyond_the_day}


def plain(content: str, **more: Any) -> MessageRequest:
    return MessageRequest(1, 0.0, content, (), **more)


@pytest.mark.parametrize(
    "how", [{"everyone": True}, {"departments": (2,)}, {"allow_duplicate": True}]
)
def test_uncounted_messages_may_be_dropped(how: dict[str, Any]) -> None:
    dropped = [entry("in any case", TOO_MANY_A_DAY), entry("counted", TOO_MANY_A_DAY)]
    messages = [plain("in any case", **how), plain("counted")]
    assert excused(messages, dropped) == {"in any case"}


def test_each_message_to_departments_that_arrived_excuses_one_other() -> None:
    messages = [plain("theirs", departments=(2,)), plain("one"), plain("two")]
    arrived, one, two = entry("theirs"), entry("one", TOO_MANY_A_DAY), entry("two", TOO_MANY_A_DAY)
    assert excused(messages, [arrived, one]) == {"one"}
    assert excused(messages, [arrived, one, two]) == set()


def test_messages_dropped_for_another_reason_are_not_excused() -> None:
    assert excused([plain("one", everyone=True)], [entry("one", "143103")]) == set()


def test_a_message_to_departments_excuses_none_of_the_next_day() -> None:
    messages = [plain("theirs", departments=(2,)), plain("one")]
    entries = [entry("theirs", at=MIDNIGHT - 3), entry("one", TOO_MANY_A_DAY)]
    assert excused(messages, entries) == set()


def test_an_equal_message_after_midnight_is_another_one() -> None:
    before, after = entry("one", at=MIDNIGHT - 3), entry("one")
    assert snapshot_of([before, after]).delivered("one", "u1") == 1
    assert snapshot_of([after, after]).delivered("one", "u1") == 2


def test_received_messages_are_counted_by_day() -> None:
    before, after = entry("one", at=MIDNIGHT - 3), entry("two")
    assert snapshot_of([before, after]).received("u1") == 1
    assert snapshot_of([after, entry("one")]).received("u1") == 2
