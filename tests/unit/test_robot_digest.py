"""One message made of many: nothing is lost, recoveries and mentions survive, and it fits."""

import json
from typing import Any

import pytest

from dingrelay_tasks import ContractError, RobotMessage
from dingrelay_tasks.robot_digest import merged

LIMIT = 20_000


def alert(title: str, text: str = "", key: str = "", **at: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"msgtype": "markdown", "markdown": {"title": title, "text": text}}
    return {"key": key, "message": {**message, **({"at": at} if at else {})}}


def size(message: dict[str, Any]) -> int:
    return len(json.dumps(message, ensure_ascii=False).encode())


def test_a_single_message_stays_as_it_is() -> None:
    assert merged([alert("disk", "full")], LIMIT) == [alert("disk", "full")["message"]]


def test_titles_are_counted_and_the_newest_text_is_shown() -> None:
    [message] = merged([alert("disk", f"{number} %") for number in range(90, 94)], LIMIT)
    assert message["markdown"] == {"title": "[4] disk", "text": "#### disk ×4\n93 %\n"}


def test_recoveries_and_mentions_survive_and_keys_stay_in_order() -> None:
    [message] = merged(
        [
            alert("disk", "FIRING 93 %", "disk", atMobiles=["138"]),
            alert("cpu", "FIRING", "cpu"),
            alert("disk", "RESOLVED 20 %", "disk", atUserIds=["u1"]),
            alert("disk", "FIRING 94 %", "disk"),
        ],
        LIMIT,
    )
    text = message["markdown"]["text"]
    assert text.index("RESOLVED 20 %") < text.index("FIRING 94 %") < text.index("#### cpu")
    assert message["at"] == {"atMobiles": ["138"], "atUserIds": ["u1"], "isAtAll": False}
    assert "@138 @u1" in text


@pytest.mark.parametrize(("count", "limit"), [(50, LIMIT), (1_000, LIMIT), (2_000, 15_000)])
def test_every_message_is_in_exactly_one_digest_that_fits(count: int, limit: int) -> None:
    alerts = [
        alert(f"告警 {number} {'长' * (number % 90)}x", "正文" * (number % 700), f"k{number % 7}")
        for number in range(count)
    ]
    messages = merged(alerts, limit)
    assert all(size(each) <= limit for each in messages)
    texts = [each["markdown"]["text"] for each in messages]
    for number in range(count):
        assert sum(f"#### 告警 {number} " in text for text in texts) == 1
    assert len(messages) <= count / 60 + 1


@pytest.mark.parametrize(
    ("to", "digest", "field"),
    [
        ({"robot": "bot", "users": ["u1"]}, "5m", "digest"),
        ({"robot": "a"}, "5 minutes", "digest.every"),
        ({"robot": "a"}, {"every": "5m", "key": "k" * 257}, "digest.key"),
    ],
)
def test_a_digest_that_can_not_be_is_refused(
    to: dict[str, Any], digest: object, field: str
) -> None:
    text = {"msgtype": "text", "text": {"content": "x"}}
    with pytest.raises(ContractError) as error:
        RobotMessage.parse({"to": to, "message": text, "digest": digest})
    assert error.value.field == field
