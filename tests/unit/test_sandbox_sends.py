"""Work notifications and the limits that drop in silence (API §2)."""

import base64
import hashlib
import hmac
from typing import Any

import pytest

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.robots import Robot
from unit.sandbox_caller import Caller

CONVERSATION = "/topapi/message/corpconversation"
BATCH = "/v1.0/robot/oToMessages/batchSend"


def ask(caller: Caller, api: str, **fields: Any) -> dict[str, Any]:
    return caller.post(f"{CONVERSATION}/{api}", {"agent_id": "1000001", **fields}).body


def test_a_message_is_in_the_inboxes_it_was_sent_to(caller: Caller) -> None:
    reply = caller.send("hello", "u1", "u2")
    assert reply.body["errcode"] == 0
    assert caller.reasons("u1") == caller.reasons("u2") == [""]
    assert caller.reasons("u3") == []
    assert ask(caller, "getsendprogress", task_id=reply.body["task_id"])["progress"] == {
        "progress_in_percent": 100,
        "status": 2,
    }


def test_the_same_content_reaches_a_person_once_a_day(caller: Caller) -> None:
    for _ in range(2):
        assert caller.send("hello", "u1").code == "0"
    caller.send("hello", "u2")
    caller.send("other", "u1")
    assert caller.reasons("u1") == ["", "143106", ""]
    assert caller.reasons("u2") == [""]
    caller.now += 12 * 3_600 - 1
    caller.log_in()
    caller.send("hello", "u1")
    caller.now += 1
    caller.send("hello", "u1")
    assert caller.reasons("u1") == ["", "143106", "", "143106", ""]


def test_another_app_may_send_the_same_content(caller: Caller) -> None:
    caller.state.apps["other"] = App(app_key="other", app_secret="s")
    caller.send("hello", "u1")
    caller.log_in("other", "s")
    caller.send("hello", "u1")
    assert caller.reasons("u1") == ["", ""]


def test_without_the_rule_a_second_copy_is_counted(caller: Caller) -> None:
    caller.limit(same_content=False)
    caller.send("hello", "u1")
    caller.send("hello", "u1")
    assert caller.reasons("u1") == ["", ""]
    assert [(each.delivered, each.repeated) for each in caller.state.sends.contents.values()] == [
        (2, 1)
    ]


def test_a_day_has_room_for_so_many_messages_to_a_person(caller: Caller) -> None:
    caller.limit(user_day=2)
    for number in range(3):
        caller.send(f"hello {number}", "u1")
    assert caller.reasons("u1") == ["", "", "143105"]


def test_no_minute_reaches_more_people_than_allowed(caller: Caller) -> None:
    caller.limit(recipients="3/60s")
    caller.send("a", "u1", "u2")
    caller.now += 59
    assert caller.send("b", "u1", "u2").code == "0"
    assert (caller.reasons("u1"), caller.reasons("u2")) == (["", ""], ["", "143103"])
    caller.now += 2
    caller.send("c", "u3", "u4")
    assert (caller.reasons("u3"), caller.reasons("u4")) == ([""], [""])
    assert caller.state.sends.most_recipients() == 4


def test_people_unknown_or_out_of_scope_get_nothing(caller: Caller) -> None:
    inside = caller.state.organisation.members(2)[0]
    outside = next(
        userid
        for userid, person in caller.state.organisation.people.items()
        if not caller.state.organisation.below(2) & set(person.departments)
    )
    caller.state.apps["narrow"] = App(app_key="narrow", app_secret="s", departments=(2,))
    caller.log_in("narrow", "s")
    task = caller.send("hello", inside, outside, "stranger").body["task_id"]
    assert caller.reasons(inside) == [""]
    assert caller.reasons(outside) == ["scope"]
    assert caller.reasons("stranger") == ["unknown_user"]
    result = ask(caller, "getsendresult", task_id=task)["send_result"]
    assert result["invalid_user_id_list"] == [outside, "stranger"]
    assert result["unread_user_id_list"] == [inside]


def test_the_result_names_who_was_held_back_and_why(caller: Caller) -> None:
    caller.send("hello", "u1")
    task = caller.send("hello", "u1", "u2").body["task_id"]
    result = ask(caller, "getsendresult", task_id=task)["send_result"]
    assert result["forbidden_list"] == [{"code": "143106", "count": 1, "userid": "u1"}]
    assert result["forbidden_user_id_list"] == ["u1"]
    assert result["unread_user_id_list"] == ["u2"]


def test_a_department_stands_for_all_below_it(caller: Caller) -> None:
    everybody = set(caller.state.organisation.people)
    caller.send("all", dept_id_list="1")
    assert {userid for userid in everybody if caller.reasons(userid) == [""]} == everybody


def test_everyone_can_be_reached_three_times_a_day(caller: Caller) -> None:
    codes = [caller.send(f"all {n}", to_all_user=True).code for n in range(4)]
    assert codes == ["0", "0", "0", "41045"]
    assert caller.state.sends.delivered == 60


def test_no_result_for_more_than_a_hundred() -> None:
    caller = Caller(users=150)
    task = caller.send("all", to_all_user=True).body["task_id"]
    assert ask(caller, "getsendresult", task_id=task)["errcode"] == 41_052


def test_a_message_can_be_recalled_within_a_day(caller: Caller) -> None:
    task = caller.send("hello", "u1").body["task_id"]
    assert ask(caller, "recall", msg_task_id=task)["errcode"] == 0
    assert caller.state.sends.sends[0].recalled
    assert ask(caller, "recall", msg_task_id=task + 1)["errcode"] == 400_002


def test_the_status_bar_of_an_oa_message(caller: Caller) -> None:
    oa = {
        "msgtype": "oa",
        "oa": {
            "message_url": "https://example.com",
            "head": {"bgcolor": "FFBBBBBB", "text": "head"},
            "body": {"title": "title"},
        },
    }
    task = caller.send("", "u1", msg=oa).body["task_id"]
    assert ask(caller, "status_bar/update", task_id=task, status_value="done")["errcode"] == 0
    plain = caller.send("hello", "u1").body["task_id"]
    assert ask(caller, "status_bar/update", task_id=plain, status_value="x")["errcode"] == 400_002


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"agent_id": 5}, "40056"),
        ({"userid_list": ",".join(f"u{n}" for n in range(101))}, "400002"),
        ({"dept_id_list": ",".join(str(n) for n in range(21))}, "400002"),
        ({"dept_id_list": "two"}, "400002"),
        ({"userid_list": ""}, "40035"),
        ({"msg": None}, "40035"),
        ({"msg": "text"}, "40035"),
        ({"msg": {"msgtype": "telegram"}}, "40008"),
        ({"msg": {"msgtype": "text", "text": {}}}, "40035"),
        ({"msg": {"msgtype": "text", "text": {"content": "x" * 5_001}}}, "34016"),
        ({"msg": {"msgtype": "action_card", "action_card": {"markdown": "x"}}}, "40035"),
        ({"msg": {"msgtype": "voice", "voice": {"media_id": "@", "duration": "60"}}}, "40035"),
    ],
)
def test_a_malformed_send_is_refused(caller: Caller, fields: dict[str, Any], code: str) -> None:
    assert caller.send("hello", "u1", **fields).code == code
    assert caller.state.sends.sends == []


def test_a_robot_reaches_single_people(caller: Caller) -> None:
    message = {"robotCode": "sandbox-key", "msgKey": "sampleText", "msgParam": '{"content":"x"}'}
    reply = caller.post(BATCH, {**message, "userIds": ["u1", "stranger"]})
    assert reply.body["invalidStaffIdList"] == ["stranger"]
    assert reply.body["processQueryKey"]
    assert caller.reasons("u1") == [""]
    many = caller.post(BATCH, {**message, "userIds": [f"u{n}" for n in range(21)]})
    assert (many.status, many.code) == (400, "invalidParameter.userIds.overMax")


def post(caller: Caller, **query: str) -> str:
    body = {"msgtype": "text", "text": {"content": "x"}, "msgUuid": query.pop("uuid", "")}
    query = {"access_token": "sandbox-robot", **query}
    answer = caller.outcome("POST", "/robot/send", query=query, payload=body).answer
    return answer.body.decode()


def test_a_webhook_pays_ten_minutes_for_the_call_too_many(caller: Caller) -> None:
    assert all('"errcode":0' in post(caller) for _ in range(20))
    assert '"errcode":410100' in post(caller)
    caller.now += 599
    assert '"errcode":410100' in post(caller)
    caller.now += 2
    assert '"errcode":0' in post(caller)
    assert len(caller.state.robots.posts) == 21


def test_a_webhook_posts_once_for_a_uuid(caller: Caller) -> None:
    post(caller, uuid="a")
    post(caller, uuid="a")
    assert len(caller.state.robots.posts) == 1
    assert '"errcode":300005' in post(caller, access_token="unknown")


def test_a_webhook_with_a_secret_wants_a_signature(caller: Caller) -> None:
    caller.state.robots.robots["r"] = Robot(token="r", secret="SEC")
    stamp = str(int(caller.now * 1000))
    digest = hmac.new(b"SEC", f"{stamp}\nSEC".encode(), hashlib.sha256).digest()
    sign = base64.b64encode(digest).decode()
    assert '"errcode":0' in post(caller, access_token="r", timestamp=stamp, sign=sign)
    assert '"errcode":310000' in post(caller, access_token="r", timestamp=stamp, sign="x")
    assert '"errcode":310000' in post(caller, access_token="r")
