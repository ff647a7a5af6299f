"""`kill -9` of gateways while programs call DingTalk through them and repeat what was not answered.

Each kind of call that changes something takes effect once, however often its program made it.
"""

import http.client
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from acceptance.fleet import Fleet
from acceptance.gateway_process import GatewayProcess, made_key
from conftest import wait_until
from dingrelay_sandbox.admin import SandboxAdmin
from support.drop_in import AGENT, CREATE_TOPAPI, INSTANCES, SEND
from support.gateways import ask

KILLS = int(os.environ.get("GATEWAY_KILLS", "2"))
ROUNDS = int(os.environ.get("GATEWAY_ROUNDS", "5"))
"""10 and 40 show the same, and take minutes."""
CLIENTS = 8
BATCH_SEND = "/v1.0/robot/oToMessages/batchSend"
ROBOTS = 8
"""DingTalk and the door count a robot's messages of a minute."""
UNANSWERED = {-1, 90018}
"""After which a program makes the same call again: busy, too fast."""


@pytest.fixture
def gateways(fleet: Fleet, tmp_path: Path) -> Iterator[list[GatewayProcess]]:
    """Two, of which a program takes either."""
    running = [GatewayProcess(fleet, tmp_path) for _ in range(2)]
    yield running
    for each in running:
        each.close()


class Program:
    """A program that makes a call until it is answered, and then never again."""

    def __init__(self, gateways: list[GatewayProcess], key: str, seed: int) -> None:
        self._gateways = gateways
        self._key_id, _, self._secret = key.partition(".")
        self._random = random.Random(seed)
        self._token = ""

    def call(self, path: str, body: Any, *, token: str = "") -> dict[str, Any]:
        answers: list[dict[str, Any]] = []

        def answered() -> bool:
            try:
                answer = self._once(path, body, token)
            except (OSError, http.client.HTTPException):
                return False
            if answer.get("errcode", 0) in UNANSWERED or answer.get("code") == "serviceBusy":
                return False
            answers.append(answer)
            return True

        wait_until(answered, timeout=200, pause=0.1)
        return answers[0]

    def _once(self, path: str, body: Any, token: str) -> dict[str, Any]:
        headers, query = {}, {}
        if not token and not self._token:
            pair = {"appkey": self._key_id, "appsecret": self._secret}
            answer = self._request("GET", "/gettoken", pair, None, {})
            if "access_token" not in answer:
                return answer
            self._token = answer["access_token"]
        if path.startswith("/v1.0/"):
            headers["x-acs-dingtalk-access-token"] = self._token
        else:
            query["access_token"] = token or self._token
        return self._request("POST", path, query, body, headers)

    def _request(
        self, method: str, path: str, query: dict[str, str], body: Any, headers: Any
    ) -> dict[str, Any]:
        port = self._random.choice(self._gateways).port
        # A few answers that are not waited for: as lost as those of a gateway that died.
        timeout = 0.2 if self._random.random() < 0.1 else 15
        target = f"{path}?{urlencode(query)}"
        content: dict[str, Any] = ask(port, method, target, body, timeout=timeout, **headers).json
        return content


def calls(number: int) -> list[tuple[str, Any, str]]:
    """One of each kind: its path, its body and the token that it needs of its own."""
    text = {"msgtype": "text", "text": {"content": f"订单 {number}"}}
    user = f"u{number % 200 + 1}"
    old = {
        "process_code": "PROC-ANY",
        "originator_user_id": user,
        "dept_id": -1,
        "form_component_values": [{"name": "单号", "value": f"old {number}"}],
        "approvers": "u2",
    }
    new = {
        "processCode": "PROC-ANY",
        "originatorUserId": user,
        "deptId": -1,
        "formComponentValues": [{"name": "单号", "value": f"new {number}"}],
        "approvers": [{"actionType": "NONE", "userIds": ["u3"]}],
    }
    robot = {
        "robotCode": "sandbox-key",
        "userIds": [user],
        "msgKey": "sampleText",
        "msgParam": json.dumps({"content": f"{number}"}),
    }
    return [
        (SEND, {"agent_id": AGENT, "userid_list": user, "msg": text}, ""),
        (CREATE_TOPAPI, old, ""),
        (INSTANCES, new, ""),
        ("/robot/send", text, f"robot-{number % ROBOTS}"),
        (BATCH_SEND, robot, ""),
    ]


def check_effects(sandbox: SandboxAdmin) -> None:
    """Everything is there, and once."""
    texts = Counter(f"订单 {number}" for number in range(ROUNDS))
    received: dict[str, Counter[str]] = {"work": Counter(), "robot": Counter()}
    for number in range(1, min(ROUNDS, 200) + 1):
        for entry in sandbox.inbox(f"u{number}")["delivered"]:
            message = entry["message"]
            text = message["text"]["content"] if "text" in message else message["msgParam"]
            received[entry["channel"]][text] += 1
    assert received["work"] == texts
    assert received["robot"] == Counter(
        json.dumps({"content": str(number)}) for number in range(ROUNDS)
    )
    assert Counter(each["form"][0][1] for each in sandbox.approvals()) == Counter(
        f"{kind} {number}" for kind in ("old", "new") for number in range(ROUNDS)
    )
    assert Counter(post["message"]["text"]["content"] for post in sandbox.robot_posts()) == texts


def check_logs(gateways: list[GatewayProcess], key: str) -> None:
    """They stop well, and have shown no secret."""
    for gateway in gateways:
        assert gateway.stop() == 0
        log = gateway.log.read_text()
        for secret in (key, key.partition(".")[2], "订单", "robot-1"):
            assert secret not in log
        assert "Traceback" not in log


@pytest.mark.timeout(900)
def test_each_call_takes_effect_once(
    fleet: Fleet, gateways: list[GatewayProcess], sandbox: SandboxAdmin
) -> None:
    sandbox.set_limits(calls=None)
    for number in range(ROBOTS):
        sandbox.add_robot(f"robot-{number}")
    for api in (SEND, CREATE_TOPAPI, INSTANCES, "/robot/send"):
        sandbox.add_fault("lost_answer", api=api, share=0.05)
    key = made_key(fleet, "crm")
    fleet.spawn(1)
    for gateway in gateways:
        wait_until(gateway.ready, timeout=60)
    answers: list[dict[str, Any]] = []
    work = [call for number in range(ROUNDS) for call in calls(number)]

    def make(place: int) -> None:
        program = Program(gateways, key, place)
        for path, body, token in work[place::CLIENTS]:
            answers.append(program.call(path, body, token=token))

    with ThreadPoolExecutor(CLIENTS) as pool:
        made = [pool.submit(make, place) for place in range(CLIENTS)]
        for kill in range(KILLS):
            enough = (kill + 1) * len(work) // (KILLS + 2)
            wait_until(
                lambda enough=enough: len(answers) >= enough or all(each.done() for each in made),
                timeout=300,
            )
            gateways[kill % 2].replace()
        for each in made:
            each.result()
    refused = [answer for answer in answers if answer.get("errcode", 0) != 0 or "code" in answer]
    assert not refused
    check_effects(sandbox)
    check_logs(gateways, key)
