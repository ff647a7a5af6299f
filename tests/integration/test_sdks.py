"""DingTalk's own SDK, the popular ones and the guide's script do their work on the sandbox.

Each is a process with an interpreter of its own, which ``make test`` installs: the SDKs bring old
packages, and two of them are called ``dingtalk``.
"""

from dingrelay_sandbox.admin import SandboxAdmin
from sdk_scripts import run_script


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
