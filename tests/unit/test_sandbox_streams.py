"""Frames of the sandbox's streams, and access to them."""

import json
from typing import Any

import pytest

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.events.callbacks import CallbackCrypto
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import EventFaults, EventFaultSpec
from dingrelay_sandbox.events.frames import (
    event_frame,
    read_ack,
    system_frame,
)
from dingrelay_sandbox.limits import DeliveryTimes
from unit.sandbox_caller import NOON


def ack(code: object = 200, data: object = "{}", **headers: Any) -> str:
    sent = {"contentType": "application/json", "messageId": "m1", **headers}
    return json.dumps({"code": code, "headers": sent, "message": "OK", "data": data})


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        # The documented answer, that of the client for Node, and that of the one for Python.
        (ack(data='{"status": "SUCCESS", "message": "success"}'), "success"),
        (ack(data='{"status": "SUCCESS"}'), "success"),
        (ack(data='{"timeStamp": "1", "userId": ["u1"]}'), "success"),
        (ack(code="200"), "success"),
        (ack(data="no JSON"), "success"),
        (ack(data=None), "success"),
        (ack(data='{"status": "LATER"}'), "LATER"),
        (ack(code=404, data="{}"), "code 404"),
        (ack(code=None), "code None"),
    ],
)
def test_an_answer_is_worth_something(text: str, worth: str) -> None:
    found = read_ack(text)
    assert found[:2] == ("m1", worth)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"headers": []}', ack(messageId=7), "[" * 99_999]
)
def test_a_frame_without_a_message_id_is_no_answer(text: str) -> None:
    assert read_ack(text) is None


def test_frames_are_as_documented() -> None:
    event = Event("user_add_org", NOON, {"userId": ["u1"]}, "e1")
    frame = json.loads(event_frame(event, App(), message_id="m1", connection="c1", at=NOON + 1))
    app_id = frame["headers"].pop("appId")
    assert frame == {
        "specVersion": "1.0",
        "type": "EVENT",
        "headers": {
            "contentType": "application/json",
            "messageId": "m1",
            "time": str(int(NOON * 1_000) + 1_000),
            "connectionId": "c1",
            "topic": "*",
            "eventType": "user_add_org",
            "eventId": "e1",
            "eventCorpId": "sandbox-corp",
            "eventBornTime": str(int(NOON * 1_000)),
            "eventUnifiedAppId": app_id,
        },
        "data": '{"userId": ["u1"]}',
    }
    ping = json.loads(system_frame("ping", {"opaque": "x"}, message_id="m2", at=NOON))
    assert (ping["type"], ping["headers"]["topic"]) == ("SYSTEM", "ping")
    assert json.loads(ping["data"]) == {"opaque": "x"}


def test_halves_of_characters_are_replaced() -> None:
    event = Event("bpms_task_change", NOON, {"remark": "\ud800!"})
    frame = event_frame(event, App(), message_id="m1", connection="c1", at=NOON)
    assert json.loads(json.loads(frame)["data"]) == {"remark": "?!"}
    crypto = CallbackCrypto("1234567890123456789012345678901234567890123", "owner")
    assert crypto.decrypt(crypto.encrypt("\ud800!")) == "?!"


def test_times_are_dingtalks_and_only_waits_are_scaled() -> None:
    times = DeliveryTimes()
    assert (times.push_timeout, times.retries, times.ticket) == (2.5, (10, 30), 90)
    assert (times.acknowledgement, times.redelivery, times.closing) == (3, 16, 10)
    shorter = times.changed({"scale": 0.1})
    assert (shorter.scaled(shorter.retries[1]), shorter.push_timeout) == (3, 2.5)
    with pytest.raises(ValueError, match="extra"):
        times.changed({"retry": 1})


def test_a_connection_meets_the_faults_of_its_app() -> None:
    faults = EventFaults(lambda: 0)
    faults.add(EventFaultSpec(kind="deaf", app="a"))
    faults.add(EventFaultSpec(kind="silent", count=1))
    faults.add(EventFaultSpec(kind="no_registered", way="http"))
    assert faults.of_connection("a") == {"deaf", "silent"}
    assert faults.of_connection("a") == {"deaf"}
    assert faults.of_connection("b") == set()
