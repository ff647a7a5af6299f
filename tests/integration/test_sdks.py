"""DingTalk's own SDK, the popular ones and the guide's script do their work on the sandbox.

Each is a process with an interpreter of its own, which ``make test`` installs: the SDKs bring old
packages, and two of them are called ``dingtalk``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from conftest import wait_until
from dingrelay_sandbox.admin import SandboxAdmin
from support.sdk_scripts import Listener, node_stream, python_stream, run_script


def run(sandbox: SandboxAdmin, script: str, environment: str = "sdks") -> None:
    run_script(sandbox.base_url, script, environment)


def delivered(sandbox: SandboxAdmin, user: str) -> list[str]:
    return [str(entry["message"]) for entry in sandbox.inbox(user)["delivered"]]


def test_the_guides_own_calls(sandbox: SandboxAdmin) -> None:
    run(sandbox, "guide.py")
    assert len(delivered(sandbox, "u1")) == len(delivered(sandbox, "u2")) == 1
    (approval,) = sandbox.approvals()
    assert approval["form"] == [["field1", "value1"]]


def test_alibabacloud_dingtalk(sandbox: SandboxAdmin) -> None:
    run(sandbox, "alibabacloud.py")
    (approval,) = sandbox.approvals()
    assert (approval["status"], approval["result"]) == ("COMPLETED", "agree")
    assert len(delivered(sandbox, "u1")) == 1


def test_dingtalk_sdk(sandbox: SandboxAdmin) -> None:
    run(sandbox, "dingtalk_sdk.py")
    assert [entry["recalled"] for entry in sandbox.inbox("u1")["delivered"]] == [True]
    assert [each["name"] for each in sandbox.media()] == ["a.png"]
    assert len(sandbox.approvals()) == 1


def test_dingding_sdk(sandbox: SandboxAdmin) -> None:
    run(sandbox, "dingding_sdk.py", "dingding")
    assert len(delivered(sandbox, "u1")) == 1
    assert [post["group"] for post in sandbox.robot_posts()] == ["cidSandboxGroup=="]


def test_onepush(sandbox: SandboxAdmin) -> None:
    sandbox.add_robot("signed", "SECsandbox")
    run(sandbox, "one_push.py")
    kinds = [post["message"]["msgtype"] for post in sandbox.robot_posts()]
    assert kinds == ["text", "markdown"]


def test_apprise_and_dingtalkchatbot(sandbox: SandboxAdmin) -> None:
    sandbox.add_robot("signed", "SECsandbox")
    run(sandbox, "webhooks.py")
    kinds = [post["message"]["msgtype"] for post in sandbox.robot_posts()]
    assert kinds == ["markdown", "text", "text", "markdown", "link"]


def test_the_chatbot_handler_of_dingtalk_stream(sandbox: SandboxAdmin) -> None:
    with python_stream(sandbox.base_url, 200):
        wait_until(lambda: states(sandbox)[-1:] == ["open"], timeout=60)
        said = {"app": "sandbox-key", "text": "status?", "group": "cidSandboxGroup=="}
        sandbox.call("POST", "robot-messages", said)
        wait_until(sandbox.robot_posts, what="the reply by the session")
        [post] = sandbox.robot_posts()
        assert (post["group"], post["message"]["text"]) == (
            said["group"],
            {"content": "heard status?"},
        )
    sandbox.reset()


StreamClient = Callable[[str], AbstractContextManager[Listener]]


@pytest.mark.parametrize(
    ("client", "refused"),
    [
        (lambda url: python_stream(url, 500), "code 500"),
        (lambda url: node_stream(url, "LATER"), "LATER"),
    ],
    ids=["python", "node"],
)
def test_dingtalk_stream(sandbox: SandboxAdmin, client: StreamClient, refused: str) -> None:
    sandbox.set_delivery(scale=0.02)
    with client(sandbox.base_url) as listener:
        # A client that could not connect in time tries again after 10 s.
        wait_until(lambda: states(sandbox)[-1:] == ["open"], timeout=60)
        sandbox.put_user("newcomer", dept_id_list=[2])
        first, second = listener.event(), listener.event()
        assert first == second
        assert (first["type"], first["data"]["userId"]) == ("user_add_org", ["newcomer"])
        wait_until(lambda: outcomes(sandbox, first["id"])[-1:] == ["success"])
        assert outcomes(sandbox, first["id"]) == [refused, "success"]
        wait_until(lambda: sandbox.streams()[-1]["pongs"] >= 1)
        before = states(sandbox)
        # A client that is disconnected comes again, with another ticket.
        sandbox.act_on_streams("disconnect")
        wait_until(lambda: states(sandbox)[len(before) - 1 :] == ["closed", "open"], timeout=60)
        event_id = sandbox.fire("any_event", anything={"名": [1, None]})
        third = listener.event()
        assert (third["id"], third["data"]) == (event_id, {"anything": {"名": [1, None]}})
    sandbox.reset()


def states(sandbox: SandboxAdmin) -> list[str]:
    return [each["state"] for each in sandbox.streams()]


def outcomes(sandbox: SandboxAdmin, event_id: str) -> list[Any]:
    deliveries = sandbox.event(event_id)["deliveries"]
    return [attempt["outcome"] for each in deliveries for attempt in each["attempts"]]
