"""Events reach a callback over HTTP: retries, the list of what failed, faults, many of them."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.request import urlopen

import pytest

from conftest import wait_until
from dingrelay_sandbox.admin import Row, SandboxAdmin, SandboxError
from support.callbacks import AES_KEY, TOKEN, Receiver, receiving

KEYS = {"token": TOKEN, "aes_key": AES_KEY}


@pytest.fixture
def receiver(sandbox: SandboxAdmin) -> Iterator[Receiver]:
    with receiving() as receiver:
        sandbox.put_callback(receiver.url, **KEYS)
        yield receiver
        assert receiver.wrong == []
        sandbox.reset()


def settled(sandbox: SandboxAdmin, event_id: str) -> Row:
    """The event, once nothing more becomes of it."""
    wait_until(lambda: states(sandbox.event(event_id)).isdisjoint({"waiting"}))
    return sandbox.event(event_id)


def states(event: Row) -> set[str]:
    return {each["state"] for each in event["deliveries"]}


def outcomes(event: Row) -> list[str]:
    return [attempt["outcome"] for each in event["deliveries"] for attempt in each["attempts"]]


def failed_list(sandbox: SandboxAdmin) -> dict[str, Any]:
    base = sandbox.base_url
    with urlopen(f"{base}/gettoken?appkey=sandbox-key&appsecret=sandbox-secret") as answer:
        token = json.load(answer)["access_token"]
    path = "call_back/get_call_back_failed_result"
    with urlopen(f"{base}/{path}?access_token={token}") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_a_url_is_asked_before_it_is_taken(sandbox: SandboxAdmin) -> None:
    with receiving() as receiver:
        for refusal, wrong in (
            ("wrong signature", {"token": "another"}),
            ("aes_key", {"aes_key": "short"}),
            ("does not exist", {"app_key": "stranger"}),
        ):
            with pytest.raises(SandboxError, match=refusal):
                sandbox.put_callback(receiver.url, **KEYS | wrong)
        sandbox.put_callback(receiver.url, **KEYS)
        assert receiver.checks == 2
    with pytest.raises(SandboxError, match="refused"):
        sandbox.put_callback(receiver.url, **KEYS)


def test_a_change_is_pushed(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.put_user("newcomer", name="新人", dept_id_list=[2])
    wait_until(lambda: receiver.events)
    (event,) = receiver.events
    assert (event["EventType"], event["userId"]) == ("user_add_org", ["newcomer"])
    assert event["CorpId"] == "sandbox-corp"
    report = settled(sandbox, event["eventId"])
    assert (states(report), outcomes(report)) == ({"delivered"}, ["success"])


def test_both_parameter_names_and_spellings(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    spelling = {"parameters": "msg_signature", "casing": "registered"}
    sandbox.put_callback(receiver.url, **KEYS, **spelling, events=["user_add_org"])
    sandbox.put_user("u1", name="another")
    sandbox.put_user("newcomer")
    wait_until(lambda: receiver.events)
    (event,) = receiver.events
    assert (event["UserId"], "eventId" in event) == (["newcomer"], False)


def test_an_app_gets_events_of_its_scope_only(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.add_app(app_key="few", app_secret="x", agent_id="2", departments=[2])
    with receiving() as other:
        sandbox.put_callback(other.url, **KEYS, app_key="few", owner_key="sandbox-key")
        sandbox.put_user("outside", dept_id_list=[3])
        sandbox.put_user("inside", dept_id_list=[2])
        # The last event of a person is that they left the scope.
        sandbox.put_user("inside", dept_id_list=[3])
        sandbox.delete_user("inside")
        wait_until(lambda: len(receiver.events) == 4)
        wait_until(lambda: sandbox.events_summary()["waiting"] == 0)
        kinds = sorted((each["EventType"], *each["userId"]) for each in other.events)
        assert kinds == [("user_add_org", "inside"), ("user_modify_org", "inside")]


def test_refused_events_are_pushed_again(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.set_delivery(scale=0.002)
    answers = iter([(500, b""), (200, b"success")])
    receiver.reply = lambda receiver, _: next(answers, receiver.success())
    event = settled(sandbox, sandbox.fire("any_event", anything=[1, {"a": None}]))
    assert outcomes(event) == ["status 500", "no JSON", "success"]
    assert [each["anything"] for each in receiver.events] == [[1, {"a": None}]] * 3
    (attempts,) = [each["attempts"] for each in event["deliveries"]]
    # 10 s and 30 s of DingTalk's.
    waits = [second["at"] - first["at"] for first, second in pairwise(attempts)]
    assert waits[0] >= 0.019
    assert waits[1] >= 0.059
    assert failed_list(sandbox)["failed_list"] == []


def test_three_failures_are_listed(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.set_delivery(scale=0.001)
    receiver.reply = lambda receiver, _: receiver.success("another text")
    users = [f"p{number}" for number in range(205)]
    sandbox.fire_many([{"type": "user_add_org", "fields": {"userId": [each]}} for each in users])
    wait_until(lambda: sandbox.events_summary()["failed"] == 205)
    assert len(receiver.events) == 3 * 205
    first, second = failed_list(sandbox), failed_list(sandbox)
    assert (len(first["failed_list"]), first["has_more"]) == (200, True)
    assert (len(second["failed_list"]), second["has_more"]) == (5, False)
    found = [*first["failed_list"], *second["failed_list"]]
    people = {person for each in found for person in each["user_add_org"]["userid"]}
    assert people == set(users)


def test_failed_events_are_kept_for_some_minutes(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.set_delivery(scale=0.001, failed_kept=0)
    receiver.reply = lambda *_: (404, b"")
    settled(sandbox, sandbox.fire("user_add_org"))
    assert failed_list(sandbox)["failed_list"] == []


def test_an_answer_may_take_2500_ms(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.set_delivery(scale=0.001, push_timeout=0.2)
    receiver.reply = lambda *_: None
    event = settled(sandbox, sandbox.fire("user_add_org"))
    assert outcomes(event) == ["timeout"] * 3
    assert sandbox.set_delivery()["retries"] == [10, 30]


def test_nobody_listens_any_more(sandbox: SandboxAdmin) -> None:
    sandbox.set_delivery(scale=0.001)
    with receiving() as receiver:
        sandbox.put_callback(receiver.url, **KEYS)
    event = settled(sandbox, sandbox.fire("user_add_org"))
    assert outcomes(event) == ["refused"] * 3
    sandbox.delete_callback()
    assert sandbox.event(sandbox.fire("user_add_org"))["deliveries"] == []


def test_events_are_swallowed(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    number = sandbox.add_event_fault("swallow", share=0.3)
    sandbox.fire_many([{"type": "user_add_org"} for _ in range(300)])
    wait_until(lambda: sandbox.events_summary()["waiting"] == 0)
    summary = sandbox.events_summary()
    assert summary["delivered"] + summary["swallowed"] == 300
    assert 50 < summary["swallowed"] < 130
    assert len(receiver.events) == summary["delivered"]
    assert failed_list(sandbox)["failed_list"] == []
    assert sandbox.event_faults()[0]["met"] == summary["swallowed"]
    sandbox.delete_event_fault(number)
    assert sandbox.event_faults() == []


def test_an_event_that_was_taken_comes_again(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.add_event_fault("duplicate", count=1, copies=2, max_ms=20)
    event_id = sandbox.fire("user_add_org")
    wait_until(lambda: len(receiver.events) == 3)
    assert {each["eventId"] for each in receiver.events} == {event_id}
    sandbox.resend(event_id)
    sandbox.fire("user_add_org", event_id=event_id, EventTime=1)
    wait_until(lambda: len(receiver.events) == 5)
    assert {each["eventId"] for each in receiver.events} == {event_id}
    assert 1 in {each["EventTime"] for each in receiver.events}


def test_events_are_late_or_in_another_order(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.add_event_fault("delay", types=["late"], min_ms=50, max_ms=60)
    began = sandbox.clock()["now"]
    late = settled(sandbox, sandbox.fire("late"))
    assert late["deliveries"][0]["attempts"][0]["at"] >= began + 0.045
    sandbox.add_event_fault("reorder", types=["mixed"], window=40, max_ms=60_000)
    order = [{"type": "mixed", "fields": {"n": number}} for number in range(40)]
    sandbox.fire_many(order[:39])
    assert sandbox.events_summary()["waiting"] == 39
    sandbox.fire_many(order[39:])
    wait_until(lambda: len(receiver.of("mixed")) == 40)
    came = [each["n"] for each in receiver.of("mixed")]
    assert came != sorted(came) == list(range(40))
    sandbox.clear_event_faults()
    # What waits for others does not wait for ever.
    sandbox.add_event_fault("reorder", types=["alone"], max_ms=10)
    settled(sandbox, sandbox.fire("alone"))


def test_many_events_a_second(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.fire_many([{"type": "user_add_org"}] * 300, per_second=3_000)
    wait_until(lambda: sandbox.events_summary()["planned"] == 0)
    wait_until(lambda: sandbox.events_summary()["waiting"] == 0, timeout=60)
    summary = sandbox.events_summary()
    assert summary["happened"] == 300
    assert len({each["eventId"] for each in receiver.events}) == summary["delivered"]
    assert summary["happened"] == summary["delivered"] == summary["attempts"]


def test_a_reset_ends_what_is_on_its_way(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    sandbox.add_event_fault("delay", min_ms=50, max_ms=50)
    sandbox.fire("user_add_org")
    sandbox.fire_many([{"type": "x"}] * 1_000, per_second=1)
    sandbox.reset()
    assert set(sandbox.events_summary().values()) == {0}
    sandbox.put_callback(receiver.url, **KEYS)
    settled(sandbox, sandbox.fire("after"))
    *before, last = [each["EventType"] for each in receiver.events]
    # On a slow machine some had left before the reset; none of the thousand that were to come has.
    assert last == "after"
    assert max(before.count("user_add_org"), before.count("x")) <= 1


def test_an_app_that_is_gone_gets_nothing(sandbox: SandboxAdmin, receiver: Receiver) -> None:
    assert sandbox.event(sandbox.fire("user_add_org", app="another"))["deliveries"] == []
    with pytest.raises(SandboxError, match="no callback"):
        sandbox.delete_callback("another")
    with pytest.raises(SandboxError, match="does not exist"):
        sandbox.event("never")
