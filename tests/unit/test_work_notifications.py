from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given

from dingrelay_tasks.context import DeliveryReport, MessageCall
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.errors import Ambiguous, Transient
from dingrelay_workers.dingtalk.messages import WorkNotifications
from support.examples import json_values
from unit.fake_calls import FakeCalls

CALL = MessageCall("call:1", users=["a"])
TEXT = {"msgtype": "text", "text": {"content": "x"}}
TAKEN = {"errcode": 0, "task_id": 7, "request_id": "r"}
DONE = {"errcode": 0, "progress": {"progress_in_percent": 100, "status": 2}}


def delivery_of(progress: dict[str, Any], result: dict[str, Any]) -> FakeCalls:
    return FakeCalls(lambda request: progress if request.api is apis.MESSAGE_PROGRESS else result)


@pytest.mark.parametrize(
    ("to", "fields", "recipients"),
    [
        ({"users": ["a", "b"]}, {"userid_list": "a,b"}, 2),
        ({"departments": [1, 2]}, {"dept_id_list": "1,2"}, 40),
        ({"everyone": True}, {"to_all_user": True}, 900),
    ],
)
async def test_the_body_of_a_send(
    to: dict[str, Any], fields: dict[str, Any], recipients: int
) -> None:
    calls = FakeCalls(lambda _: TAKEN)
    assert await WorkNotifications(calls).send_message(
        MessageCall("call:1", **to), TEXT, recipients=recipients
    ) == (7, "r")
    (request,) = calls.requests
    assert request.api is apis.MESSAGE_SEND
    assert request.body == {"agent_id": 4242, "msg": TEXT, **fields}
    assert request.recipients == recipients


async def test_numbers_may_come_as_strings() -> None:
    calls = FakeCalls(lambda _: {"errcode": 0, "task_id": "7"}, agent_id="agent")
    sent = await WorkNotifications(calls).send_message(CALL, TEXT, recipients=1)
    assert sent == (7, "")
    assert calls.requests[0].body["agent_id"] == "agent"


@pytest.mark.parametrize("task_id", [None, "", "x", [], {}, True, 1.5])
async def test_an_answer_without_a_task_leaves_the_send_ambiguous(task_id: object) -> None:
    calls = FakeCalls(lambda _: {"errcode": 0, "task_id": task_id})
    with pytest.raises(Ambiguous, match="task_id"):
        await WorkNotifications(calls).send_message(CALL, TEXT, recipients=1)


@pytest.mark.parametrize("status", [0, 1, "1"])
async def test_a_delivery_under_way_asks_for_no_result(status: object) -> None:
    calls = delivery_of({"progress": {"status": status}}, {})
    assert await WorkNotifications(calls).delivery(7) == DeliveryReport(finished=False)
    assert [request.api for request in calls.requests] == [apis.MESSAGE_PROGRESS]
    assert calls.requests[0].body == {"agent_id": 4242, "task_id": 7}


async def test_a_finished_delivery() -> None:
    result = {
        "invalid_user_id_list": ["a"],
        "forbidden_user_id_list": ["b", "c"],
        "forbidden_list": [{"code": "143105", "count": 500, "userid": "b"}],
        "read_user_id_list": ["d"],
        "unread_user_id_list": ["e"],
    }
    calls = delivery_of(DONE, {"errcode": 0, "send_result": result})
    assert await WorkNotifications(calls).delivery(7) == DeliveryReport(
        finished=True,
        invalid=["a"],
        forbidden=[
            {"userid": "b", "code": "143105", "count": "500"},
            {"userid": "c", "code": "", "count": ""},
        ],
        read=["d"],
        unread=["e"],
    )


async def test_lists_that_hold_nothing_may_be_absent() -> None:
    calls = delivery_of(DONE, {"errcode": 0, "send_result": {"invalid_user_id_list": None}})
    assert await WorkNotifications(calls).delivery(7) == DeliveryReport(finished=True)


ANYTHING = json_values(["status", "forbidden_list", "read_user_id_list", "userid"], leaves=6)


@given(ANYTHING, ANYTHING)
async def test_any_delivery_report_is_read_or_tried_again(progress: object, result: object) -> None:
    calls = delivery_of({"progress": progress}, {"send_result": result})
    finished = delivery_of(DONE, {"send_result": result})
    for api in (calls, finished):
        with suppress(Transient):
            await WorkNotifications(api).delivery(7)


async def test_one_entry_alone_counts_as_a_list_but_no_empty_text() -> None:
    alone = {"read_user_id_list": "ann", "forbidden_list": {"userid": "bob", "code": 143105}}
    delivery = await WorkNotifications(delivery_of(DONE, {"send_result": alone})).delivery(7)
    assert delivery.read == ["ann"]
    assert delivery.forbidden == [{"userid": "bob", "code": "143105", "count": ""}]
    unreadable = delivery_of(DONE, {"send_result": {"read_user_id_list": ""}})
    with pytest.raises(Transient, match="read_user_id_list"):
        await WorkNotifications(unreadable).delivery(7)
