import json
from typing import Any

import pytest

from dingrelay_sandbox.apis.messages import check_message
from dingrelay_tasks import ContractError, MessageSend
from dingrelay_tasks.message import payload

URL = "https://example.com/a"
OA = {
    "message_url": URL,
    "head": {"bgcolor": "FFBBBBBB", "text": "head"},
    "body": {"title": "t", "form": [{"key": "k", "value": "v"}], "rich": {"num": "15.6"}},
}
ONE_LINK = {"markdown": "m", "single_title": "open", "single_url": URL}
BUTTONS = {
    "title": "t",
    "markdown": "m",
    "btn_orientation": "1",
    "btn_json_list": [{"title": "yes", "action_url": URL}, {"title": "no", "action_url": URL}],
}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("text", {"content": "你好"}),
    ("image", {"media_id": "@lADP"}),
    ("voice", {"media_id": "@lADP", "duration": "10"}),
    ("file", {"media_id": "@lADP"}),
    ("link", {"messageUrl": URL, "picUrl": "@lADP", "title": "t", "text": "x"}),
    ("markdown", {"title": "t", "text": "# x"}),
    ("action_card", ONE_LINK),
    ("action_card", BUTTONS),
    ("oa", OA),
    ("oa", OA | {"status_bar": {"status_value": "进行中", "status_bg": "0xFFF65E5E"}}),
]


def send(msgtype: str, body: object, **fields: Any) -> MessageSend:
    message = {"msgtype": msgtype, msgtype: body}
    return MessageSend.parse({"to": {"users": ["u1"]}, "message": message, **fields})


def refused(msgtype: str, body: object, **fields: Any) -> ContractError:
    with pytest.raises(ContractError) as caught:
        send(msgtype, body, **fields)
    return caught.value


def without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


@pytest.mark.parametrize(("msgtype", "body"), BODIES)
def test_each_type_reaches_dingtalk_as_it_was_written(msgtype: str, body: dict[str, Any]) -> None:
    job = send(msgtype, body)
    assert payload(job.message) == {"msgtype": msgtype, msgtype: body}
    again = MessageSend.parse(json.loads(json.dumps(job.wire())))
    assert again == job
    assert json.dumps(payload(again.message)) == json.dumps(payload(job.message))


REQUIRED = [
    *[(msgtype, body, name) for msgtype, body in BODIES[:6] for name in body],
    *[("action_card", ONE_LINK, name) for name in ONE_LINK],
    ("action_card", BUTTONS, "markdown"),
    *[("oa", OA, name) for name in OA],
]


@pytest.mark.parametrize(("msgtype", "body", "name"), REQUIRED)
def test_a_missing_field_is_named(msgtype: str, body: dict[str, Any], name: str) -> None:
    assert refused(msgtype, without(body, name)).field == f"message.{msgtype}.{name}"


@pytest.mark.parametrize(("msgtype", "body"), BODIES)
def test_unknown_fields_are_refused(msgtype: str, body: dict[str, Any]) -> None:
    assert refused(msgtype, body | {"extra": 1}).field == f"message.{msgtype}.extra"


LONGEST = [
    ("text", {"content": "好"}, "content", 5_000),
    ("markdown", {"title": "t", "text": "好"}, "text", 5_000),
    ("action_card", ONE_LINK | {"title": "好"}, "title", 64),
    ("action_card", ONE_LINK | {"single_title": "好"}, "single_title", 20),
    ("action_card", ONE_LINK | {"markdown": "好"}, "markdown", 5_000),
]


@pytest.mark.parametrize(("msgtype", "body", "name", "limit"), LONGEST)
def test_texts_are_counted_whole(msgtype: str, body: dict[str, Any], name: str, limit: int) -> None:
    job = send(msgtype, body | {name: "好" * limit})
    assert payload(job.message)[msgtype][name] == "好" * limit
    assert refused(msgtype, body | {name: "好" * (limit + 1)}).field == f"message.{msgtype}.{name}"
    assert refused(msgtype, body | {name: ""}).field == f"message.{msgtype}.{name}"


@pytest.mark.parametrize(
    ("msgtype", "body", "field"),
    [
        ("voice", {"media_id": "@a", "duration": "60"}, "voice.duration"),
        ("voice", {"media_id": "@a", "duration": "0"}, "voice.duration"),
        ("voice", {"media_id": "@a", "duration": 10}, "voice.duration"),
        ("link", dict(BODIES[4][1], messageUrl="no url"), "link.messageUrl"),
        ("link", dict(BODIES[4][1], messageUrl="https://a b"), "link.messageUrl"),
        (
            "action_card",
            ONE_LINK | {"single_url": "https://e.com/" + "x" * 500},
            "action_card.single_url",
        ),
        (
            "action_card",
            BUTTONS | {"btn_json_list": [{"title": "x" * 21, "action_url": URL}]},
            "action_card.btn_json_list.0.title",
        ),
        (
            "action_card",
            BUTTONS | {"btn_json_list": [{"title": "x", "action_url": URL + "x" * 700}]},
            "action_card.btn_json_list.0.action_url",
        ),
        (
            "action_card",
            BUTTONS | {"btn_json_list": [{"title": "x", "action_url": URL}] * 30},
            "action_card.btn_json_list",
        ),
        ("action_card", BUTTONS | {"btn_json_list": []}, "action_card.btn_json_list"),
        ("action_card", BUTTONS | {"btn_orientation": "2"}, "action_card.btn_orientation"),
        ("action_card", BUTTONS | {"single_title": "x"}, "action_card.single_title"),
        ("action_card", ONE_LINK | {"btn_orientation": "1"}, "action_card.btn_orientation"),
        ("oa", OA | {"head": {"bgcolor": "0xFFBBBB", "text": "x"}}, "oa.head.bgcolor"),
        ("oa", OA | {"head": {"bgcolor": "FFBBBBBB"}}, "oa.head.text"),
        ("oa", OA | {"body": {"title": ""}}, "oa.body.title"),
        ("oa", OA | {"body": {"form": []}}, "oa.body.form"),
        ("oa", OA | {"body": {"form": [{"key": "k"}]}}, "oa.body.form.0.value"),
        ("oa", OA | {"body": {"file_count": "many"}}, "oa.body.file_count"),
        ("oa", OA | {"status_bar": {"status_bg": "0xFFF65E5E"}}, "oa.status_bar.status_value"),
        (
            "oa",
            OA | {"status_bar": {"status_value": "s", "status_bg": "FFF65E5E"}},
            "oa.status_bar.status_bg",
        ),
    ],
)
def test_refusable_messages_name_a_field(msgtype: str, body: dict[str, Any], field: str) -> None:
    assert refused(msgtype, body).field == f"message.{field}"


@pytest.mark.parametrize(
    "to", [{"everyone": True}, {"departments": [1]}, {"users": [f"u{n}" for n in range(6)]}]
)
def test_a_status_bar_is_for_five_users_at_most(to: dict[str, Any]) -> None:
    bar = OA | {"status_bar": {"status_value": "s"}}
    assert refused("oa", bar, to=to).field == "message.oa.status_bar"
    assert send("oa", bar, to={"users": ["a", "b", "c", "d", "e", "a"]}).recipients == 5
    assert send("oa", OA, to=to)


def test_several_buttons_stack_by_default() -> None:
    job = send("action_card", without(BUTTONS, "btn_orientation"))
    assert payload(job.message)["action_card"]["btn_orientation"] == "0"


@pytest.mark.parametrize("msgtype", ["sms", "", None, 3, ["text"]])
def test_an_unknown_type_is_named(msgtype: object) -> None:
    with pytest.raises(ContractError) as caught:
        MessageSend.parse({"to": {"users": ["u"]}, "message": {"msgtype": msgtype, "text": {}}})
    assert caught.value.field == "message.msgtype"


def test_dingtalks_own_links_are_urls() -> None:
    url = "dingtalk://dingtalkclient/page/link?url=https%3A%2F%2Fe.com&pc_slide=false"
    assert send("link", dict(BODIES[4][1], messageUrl=url))


@pytest.mark.parametrize(
    ("msgtype", "body"),
    [
        ("link", dict(BODIES[4][1], title="题" * 101)),
        ("markdown", {"title": "题" * 101, "text": "x"}),
        ("oa", OA | {"body": {"title": "题" * 51, "form": [{"key": "k", "value": "v"}] * 7}}),
    ],
)
def test_advised_lengths_are_not_checked(msgtype: str, body: dict[str, Any]) -> None:
    job = send(msgtype, body)
    assert payload(job.message)[msgtype] == body
    check_message(payload(job.message))
