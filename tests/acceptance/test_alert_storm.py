"""A storm of alerts to a pool of two robots: few calls, each alert once, the urgent one at once."""

import re
import time
from collections import Counter
from typing import Any

import pytest

from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import RobotMessage
from support.examples import either

ALERTS = either(400, 1_000)
PATH = "/robot/send"
TOKENS = ("token-of-storm-a", "token-of-storm-b")


def alert(number: int, **more: Any) -> RobotMessage:
    title = f"alert {number:04}"
    text = "RESOLVED" if number % 10 == 9 else "FIRING"
    content = {
        "msgtype": "markdown",
        "markdown": {"title": title, "text": text},
        "at": {"atMobiles": [f"138{number % 3:08}"]},
    }
    digest = {"every": "5s", "key": f"host-{number % 20}"}
    return RobotMessage.parse(
        {"to": {"group": "oncall"}, "message": content, "digest": digest, **more}
    )


@pytest.fixture
def robots(fleet: Fleet, sandbox: SandboxAdmin) -> None:
    config = fleet.directory / "robots.toml"
    config.write_text('[groups.oncall]\nrobots = ["a", "b"]\n')
    fleet.env["DINGRELAY_CONFIG"] = str(config)
    fleet.env["DINGRELAY_LEASE"] = "5"
    for name, token in zip("AB", TOKENS, strict=True):
        sandbox.add_robot(token)
        url = f"{sandbox.base_url}{PATH}?access_token={token}"
        fleet.env[f"DINGTALK_ROBOT_{name}_WEBHOOK"] = url


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("robots")
def test_each_alert_arrives_once(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("lost_answer", api=PATH, share=0.3)
    first, _ = fleet.spawn(2)
    began = time.time()
    ids: list[str] = []
    client.send_many(map(alert, range(ALERTS // 2)), on_sent=lambda ref: ids.append(ref.id))
    urgent = client.send(alert(ALERTS, lane="urgent")).id
    wait_until(sandbox.robot_posts, timeout=30, what="the first is posted")
    first.kill()
    fleet.spawn(wait=False)
    client.send_many(map(alert, range(ALERTS // 2, ALERTS)), on_sent=lambda ref: ids.append(ref.id))
    ended = wait_for_ends(client, [*ids, urgent], timeout=150)
    assert {status.state for status in ended} == {"done"}

    posts = sandbox.robot_posts()
    texts = [post["message"]["markdown"] for post in posts]
    shown = Counter(
        number
        for text in texts
        for number in set(re.findall(r"alert (\d{4})", text["title"] + text["text"]))
        if f"#### alert {number}" in text["text"] or text["title"] == f"alert {number}"
    )
    assert shown == Counter({f"{number:04}": 1 for number in range(ALERTS + 1)})
    assert sum(call["at"] < began + 60 for call in sandbox.calls(api=PATH)) <= 40
    mentioned = {who for post in posts for who in post["message"]["at"]["atMobiles"]}
    assert mentioned == {f"138{number:08}" for number in range(3)}
    alone = next(
        post for post in posts if post["message"]["markdown"]["title"].endswith(f"{ALERTS}")
    )
    assert alone["message"]["markdown"]["title"] == f"alert {ALERTS:04}"
    assert "throttled" not in sandbox.audit()["calls"].get(PATH, {})
    assert not [token for token in TOKENS if token in fleet.logs()]
