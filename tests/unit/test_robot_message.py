"""robot-message: its contract, what it becomes for each of DingTalk's ways, and the settings of robots."""

import json
from pathlib import Path
from typing import Any

import pytest

from dingrelay_producers import Settings
from dingrelay_producers.settings import SettingsError
from dingrelay_producers.settings.robots import missing_webhooks
from dingrelay_tasks import ContractError, RobotMessage
from dingrelay_tasks.robot_content import enterprise
from dingrelay_tasks.robot_message import outcomes, split
from dingrelay_workers.dingtalk.robots import signature
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.preflight import check_webhooks

TEXT = {"msgtype": "text", "text": {"content": "disk full"}}
MARKDOWN = {"msgtype": "markdown", "markdown": {"title": "disk", "text": "#### full"}}
BUTTON = {"title": "ok", "actionURL": "https://example.com"}
TOKEN = "a-token-that-is-secret"
WEBHOOK = f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}"


def message(content: dict[str, Any] = TEXT, **to: Any) -> RobotMessage:
    return RobotMessage.parse({"to": to or {"robot": "ops"}, "message": content})


def card(**fields: Any) -> dict[str, Any]:
    return {"msgtype": "actionCard", "actionCard": {"title": "t", "text": "x", **fields}}


@pytest.mark.parametrize(
    ("to", "content", "field"),
    [
        ({}, TEXT, "to.robot"),
        ({"group": "g", "robot": "r"}, TEXT, "to.group"),
        ({"users": ["u1"]}, TEXT, "to.robot"),
        ({"robot": "r"}, {"msgtype": "oa"}, "message.msgtype"),
        ({"robot": "r"}, {"msgtype": "text", "text": {}}, "message.text.content"),
        ({"robot": "r"}, card(), "message.actionCard.btns"),
        ({"robot": "r"}, card(singleTitle="x", btns=[BUTTON]), "message.actionCard.btns"),
        (
            {"robot": "r"},
            {"msgtype": "feedCard", "feedCard": {"links": []}},
            "message.feedCard.links",
        ),
        (
            {"robot": "r"},
            {"msgtype": "feedCard", "feedCard": {"links": []}, "at": {}},
            "message.at",
        ),
        (
            {"robot": "r"},
            {
                "msgtype": "link",
                "link": {"title": "t", "text": "x", "messageUrl": "https://x"},
                "at": {"isAtAll": True},
            },
            "message.at",
        ),
        ({"robot": "r", "users": ["u"]}, {**TEXT, "at": {"isAtAll": True}}, "message.at"),
        (
            {"robot": "r", "users": ["u"]},
            {
                "msgtype": "feedCard",
                "feedCard": {
                    "links": [{"title": "t", "messageURL": "https://x", "picURL": "https://x"}]
                },
            },
            "message.msgtype",
        ),
        ({"robot": "r", "users": ["u"]}, card(btns=[BUTTON] * 6), "message.actionCard.btns"),
        ({"robot": "r"}, {"msgtype": "text", "text": {"content": "语" * 7_000}}, "message"),
    ],
)
def test_unfit_fields_are_named(to: dict[str, Any], content: dict[str, Any], field: str) -> None:
    with pytest.raises(ContractError) as error:
        RobotMessage.parse({"to": to, "message": content})
    assert error.value.field == field


@pytest.mark.parametrize(
    ("content", "key", "parameters"),
    [
        (TEXT, "sampleText", {"content": "disk full"}),
        (MARKDOWN, "sampleMarkdown", {"title": "disk", "text": "#### full"}),
        (
            card(singleTitle="s", singleURL="https://x"),
            "sampleActionCard",
            {"title": "t", "text": "x", "singleTitle": "s", "singleURL": "https://x"},
        ),
        (
            card(btns=[BUTTON] * 2),
            "sampleActionCard2",
            {
                "title": "t",
                "text": "x",
                "actionTitle1": "ok",
                "actionURL1": "https://example.com",
                "actionTitle2": "ok",
                "actionURL2": "https://example.com",
            },
        ),
        (
            card(btns=[BUTTON] * 2, btnOrientation="1"),
            "sampleActionCard6",
            {
                "title": "t",
                "text": "x",
                "buttonTitle1": "ok",
                "buttonUrl1": "https://example.com",
                "buttonTitle2": "ok",
                "buttonUrl2": "https://example.com",
            },
        ),
        (
            {"msgtype": "image", "image": {"photoURL": "@id"}},
            "sampleImageMsg",
            {"photoURL": "@id"},
        ),
    ],
)
def test_an_enterprise_robot_gets_the_same_message_in_its_own_spelling(
    content: dict[str, Any], key: str, parameters: dict[str, Any]
) -> None:
    assert enterprise(message(content, robot="bot", users=["u1"]).body) == (key, parameters)


def test_a_long_text_is_split_between_lines() -> None:
    lines = [f"- line {number} {'长' * 100}" for number in range(200)]
    long = {"msgtype": "markdown", "markdown": {"title": "t", "text": "\n".join(lines)}}
    pieces = split(message(long).body, 20_000)
    assert len(pieces) == 4
    assert "".join(piece["markdown"]["text"] for piece in pieces) == "\n".join(lines)
    assert all(len(json.dumps(each, ensure_ascii=False).encode()) <= 20_000 for each in pieces)


def test_each_user_has_an_outcome() -> None:
    step = {"robot": "bot", "query_key": "k", "users": ["u1", "u2", "u3"]}
    steps = {"post-000": {**step, "invalid": ["u2"], "flow_controlled": ["u3"]}}
    job = {"to": {"users": ["u1", "u2", "u3", "u4"]}}
    expected = {"u1": "accepted", "u2": "invalid", "u3": "flow_controlled", "u4": "not_sent"}
    assert outcomes(job, steps) == expected


def test_the_sign_is_made_of_time_and_secret() -> None:
    assert signature("this is secret", 1577262236757) == {
        "timestamp": "1577262236757",
        "sign": "hmPWwU+7lVdm3ZZz0r9tSfx0L4Q26jWOZr9+Gs6EZQM=",
    }


def test_calls_of_a_robot_leave_one_by_one() -> None:
    rule = Rules.from_settings({}, "office").of("robots", "robot.webhook@abc")[0]
    assert (rule.burst, rule.top) == (1, rule.rate)
    assert 19.5 / 60 < rule.rate < 20 / 60


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    config = tmp_path / "dingrelay.toml"
    monkeypatch.setenv("DINGRELAY_CONFIG", str(config))
    monkeypatch.setenv("DINGTALK_ROBOT_OPS_WEBHOOK", WEBHOOK)
    secret = tmp_path / "secret"
    secret.write_text("SEC123\n")
    monkeypatch.setenv("DINGTALK_ROBOT_OPS_SECRET_FILE", str(secret))
    config.write_text(
        '[robots.bot]\napp = "default"\ncode = "dingcode"\n'
        '[groups.oncall]\nrobots = ["ops"]\n'
        '[groups.hr]\nrobots = ["bot"]\nconversation = "cid1"\n'
    )
    return config


def test_robots_come_from_the_environment_and_their_groups_from_the_file(environment: Path) -> None:
    settings = Settings.load(env="test")
    ops = settings.robots["ops"]
    assert (ops.token, ops.secret.get_secret_value(), ops.kind) == (TOKEN, "SEC123", "webhook")
    assert settings.robots["bot"].kind == "enterprise"
    assert TOKEN not in repr(settings) + repr(ops)
    assert "SEC123" not in repr(settings)
    settings.check_target(message(TEXT, group="oncall"))
    settings.check_target(message(TEXT, robot="bot", users=["u1"]))
    for to, content, field in (
        ({"robot": "ops", "users": ["u1"]}, TEXT, "to.robot"),
        ({"robot": "bot"}, TEXT, "to.robot"),
        ({"group": "hr"}, {**TEXT, "at": {"isAtAll": True}}, "message.at"),
        ({"group": "oncall"}, {"msgtype": "image", "image": {"photoURL": "x"}}, "message.msgtype"),
    ):
        with pytest.raises(ContractError) as error:
            settings.check_target(message(content, **to))
        assert error.value.field == field


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("WEBHOOK", f"https://evil.example.com/robot/send?access_token={TOKEN}", "WEBHOOK"),
        ("WEBHOOK", f"https://dingtalk.com.evil.com/robot/send?access_token={TOKEN}", "WEBHOOK"),
        ("WEBHOOK", "https://oapi.dingtalk.com/robot/send", "WEBHOOK"),
        ("WEBHOOK", f"https://oapi.dingtalk.com/gettoken?access_token={TOKEN}", "WEBHOOK"),
    ],
)
def test_a_webhook_elsewhere_is_refused_without_its_token(
    environment: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(f"DINGTALK_ROBOT_OPS_{variable}", value)
    with pytest.raises(SettingsError, match=f"DINGTALK_ROBOT_OPS_{named}") as error:
        Settings.load(env="test")
    assert TOKEN not in str(error.value)


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ('[robots.x]\nwebhook = "https://x"', r"robots\.x\.webhook"),
        ('[robots.x]\napp = "default"', r"robots\.x"),
        ('[groups.g]\nrobots = ["ops"]\nconversation = "c"', r"groups\.g"),
    ],
)
def test_senseless_robots_are_refused(environment: Path, toml: str, named: str) -> None:
    environment.write_text(toml)
    with pytest.raises(SettingsError, match=named):
        Settings.load(env="test")


def test_only_workers_need_the_webhooks(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DINGTALK_ROBOT_OPS_WEBHOOK")
    monkeypatch.delenv("DINGTALK_ROBOT_OPS_SECRET_FILE")
    environment.write_text(
        '[robots.ops]\ncalls = "10/60s"\n[groups.oncall]\nrobots = ["ops", "ops2"]\n'
    )
    settings = Settings.load(env="test")
    settings.check_target(message(TEXT, group="oncall"))
    settings.check_target(message(TEXT, robot="elsewhere"))
    assert settings.limits == {}
    assert missing_webhooks(settings.robots, settings.groups) == [
        "DINGTALK_ROBOT_OPS_WEBHOOK",
        "DINGTALK_ROBOT_OPS2_WEBHOOK",
    ]
    with pytest.raises(SettingsError, match="DINGTALK_ROBOT_OPS_WEBHOOK"):
        check_webhooks(settings)
    monkeypatch.setenv("DINGTALK_ROBOT_OPS_WEBHOOK", WEBHOOK)
    monkeypatch.setenv("DINGTALK_ROBOT_OPS2_WEBHOOK", WEBHOOK + "2")
    check_webhooks(Settings.load(env="test"))
