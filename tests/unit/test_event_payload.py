"""Events of DingTalk as they are read: pushed, and in pages of those that could not be pushed."""

import json
from typing import Any

import pytest

from dingrelay_producers.store import record
from dingrelay_producers.stream import connection as frames
from dingrelay_tasks import event_payload
from dingrelay_tasks.contract import DEEPEST, ContractError
from dingrelay_tasks.event import Event
from dingrelay_workers.dingtalk import missed_events
from unit.fake_calls import FakeCalls

HALF = "\ud800"
"""Half of a surrogate pair: JSON can spell it, UTF-8 can't carry it."""


def pushed(**fields: Any) -> Event:
    return event_payload.of_push("default", event_payload.decode(json.dumps(fields)))


@pytest.mark.parametrize("event_id", ["x" * 257, 1.5, True, ["a"], {"a": 1}, None])
def test_an_event_whose_id_is_none_is_known_by_its_content(event_id: Any) -> None:
    event, other = (
        pushed(EventType="user_add_org", eventId=event_id, userId=[user]) for user in ("u1", "u2")
    )

    assert event.event_id == ""
    assert event.identity.startswith("content:")
    assert event.identity != other.identity


def test_an_event_that_is_nested_too_deeply_is_refused_before_it_is_a_job() -> None:
    def nested(levels: int) -> Event:
        inner: list[Any] = []
        for _ in range(levels - 1):
            inner = [inner]
        return pushed(EventType="a", x=inner)

    record.draft(nested(DEEPEST - 1))
    with pytest.raises(ContractError, match="levels"):
        nested(DEEPEST)
    with pytest.raises(ContractError, match="levels"):
        nested(900)


def test_many_small_objects_are_not_deep() -> None:
    event = pushed(EventType="a", x=[{"id": number} for number in range(1_000)])
    assert len(event.data["x"]) == 1_000


@pytest.mark.parametrize("field", ["eventType", "eventId", "eventCorpId", "eventBornTime"])
def test_half_a_character_in_a_header_of_a_frame_loses_no_event(field: str) -> None:
    headers = {
        "topic": "*",
        "messageId": "m1",
        "eventType": "a",
        "eventId": "1",
        "eventCorpId": "c",
    }
    frame = frames.read_frame(
        json.dumps({"type": "EVENT", "headers": headers | {field: f"a{HALF}"}})
    )

    event = event_payload.of_frame("default", frame.headers, {})
    assert record.draft(event).kind == "event"


def test_answers_can_be_sent_whatever_the_frame_held() -> None:
    headers = {"topic": "ping", "messageId": f"m{HALF}"}
    frame = frames.read_frame(
        json.dumps({"type": "SYSTEM", "headers": headers, "data": f"{HALF}钉"})
    )

    assert frame is not None
    for answer in (frames.pong(frame), frames.acknowledgement(frame, "SUCCESS")):
        answer.encode()
        assert json.loads(answer)["headers"]["messageId"] == f"m{HALF}"
    assert json.loads(frames.pong(frame))["data"] == f"{HALF}钉"


@pytest.mark.parametrize(
    ("has_more", "more"),
    [
        *((value, True) for value in (True, "true", 1, "perhaps")),
        *((value, False) for value in (False, "false", 0, None)),
    ],
)
async def test_whether_there_are_more_is_read_leniently(has_more: object, more: bool) -> None:
    answer = {"errcode": 0, "has_more": has_more, "failed_list": [{"call_back_tag": "x"}]}
    page = await missed_events.read(FakeCalls(lambda _: answer))
    assert (len(page.entries), page.more) == (1, more)
    empty = FakeCalls(lambda _: {**answer, "failed_list": []})
    assert not (await missed_events.read(empty)).more
