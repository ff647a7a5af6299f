"""A busy gateway and worker that log all they can, through every failure: no secret comes out."""

import http.client
import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from redis import Redis

from acceptance.fleet import PYTHON, Fleet
from acceptance.gateway_process import GatewayProcess, made_key
from conftest import wait_until
from dingrelay_chaos.valkey import records as found
from dingrelay_sandbox.admin import SandboxAdmin
from support import processes
from support.drop_in import AGENT, APPROVAL, PURCHASE
from support.gateways import ask

BODY = "机密正文"
ROBOT = "robot-" + secrets.token_hex(8)
SIGN = "SIGN" + secrets.token_hex(8)
TEXT = {"msgtype": "text", "text": {"content": BODY}}
SEND = "/topapi/message/corpconversation/asyncsend_v2"


class Caller:
    """Makes requests, and keeps all that was answered."""

    def __init__(self, gateway: GatewayProcess, key: str) -> None:
        self._port = gateway.port
        self._key = key
        self.answers: list[str] = []

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        sent = {"Authorization": f"Bearer {self._key}"} | headers
        with suppress(OSError, http.client.HTTPException):
            answer = ask(self._port, method, path, body, timeout=20, **sent)
            content = answer.content.decode()
            self.answers.append(f"{dict(answer.headers)} {content}")
            return answer.status, content
        return 0, "{}"

    def raw(self, content: bytes) -> None:
        """Send bytes that are no HTTP."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=10) as client:
            client.sendall(content)
            with suppress(OSError):
                self.answers.append(client.recv(65_536).decode(errors="replace"))


@pytest.fixture
def gateway(fleet: Fleet, tmp_path: Path) -> Iterator[GatewayProcess]:
    fleet.env |= {"DINGRELAY_LOG_LEVEL": "DEBUG", "DINGRELAY_LOG_FORMAT": "console"}
    gateway = GatewayProcess(fleet, tmp_path)
    yield gateway
    gateway.close()


def everything(caller: Caller, key: str, token: str) -> None:
    """Each door and each kind of job, right and wrong."""
    key_id, _, secret = key.partition(".")
    send = {"agent_id": AGENT, "userid_list": "u1", "msg": TEXT}
    query = urlencode({"access_token": token})
    caller.ask("GET", f"/gettoken?{urlencode({'appkey': key_id, 'appsecret': secret})}")
    caller.ask("GET", f"/gettoken?{urlencode({'appkey': key_id, 'appsecret': f'{secret}x'})}")
    caller.ask("POST", "/v1.0/oauth2/accessToken", {"appKey": key_id, "appSecret": [secret]})
    for body in (send, {**send, "msg": BODY}, {**send, "more": BODY}, {"agent_id": BODY}):
        caller.ask("POST", f"{SEND}?{query}", body)
    caller.ask("POST", f"{SEND}?{query}&{query}", send)
    caller.ask("POST", f"/topapi/v2/user/get?{query}&ACCESS_TOKEN={token}", {"userid": BODY})
    caller.ask("POST", f"/topapi/{quote('路径')}?{query}", {"userid": BODY})
    caller.ask("POST", f"/topapi/processinstance/create?{query}", {**APPROVAL, "dept_id": BODY})
    caller.ask(
        "POST", "/v1.0/workflow/processInstances", PURCHASE, x_acs_dingtalk_access_token=token
    )
    caller.ask("POST", f"/robot/send?access_token={ROBOT}&timestamp=1&sign={SIGN}", TEXT)
    caller.ask("POST", f"/robot/send?access_token={ROBOT}none&sign={SIGN}", TEXT)
    job = {"to": {"users": ["u2"]}, "message": TEXT}
    for body in (job, {**job, "more": BODY}, {**job, "lane": BODY}, {**job, "message": BODY}):
        caller.ask("POST", "/v1/messages?wait=2", body, Idempotency_Key=secrets.token_hex(8))
    called = {"method": "POST", "path": "/topapi/v2/user/get", "body": {"userid": BODY}}
    for more in ({}, {"query": {"Access_Token": token}}, {"path": f"https://x/{token}"}):
        caller.ask("POST", "/v1/calls?wait=2", {**called, **more})
    lines = b"\n".join(json.dumps(each).encode() for each in (job, {**job, "more": BODY}, BODY))
    caller.ask("POST", "/v1/jobs", lines, Content_Type="application/x-ndjson")
    caller.ask("GET", f"/v1/jobs/{secret}")
    caller.ask("GET", f"/v1/jobs?cursor={secret}")
    caller.ask("POST", "/v1/messages", f'{{"x": "{BODY}{token}'.encode())
    for wrong in (f"{key}x", secret, f"{key_id}.{BODY}"):
        caller.ask("GET", "/v1/jobs", Authorization=f"Bearer {quote(wrong)}")
    for content in (
        f"GET /{secret} HTTP/9.9\r\n\r\n",
        f"{secret}\r\n\r\n",
        f"GET /v1/jobs HTTP/1.1\r\nAuthorization: Bearer {key}\r\nX: \x01\r\n\r\n",
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: x{secret}\r\n\r\n",
    ):
        caller.raw(content.encode())
    caller.ask("GET", "/v1/jobs?limit=200")
    caller.ask("GET", "/v1/dead")
    caller.ask("GET", "/v1/limits")
    caller.ask("GET", "/readyz")


def shown(fleet: Fleet, caller: Caller) -> str:
    """Two jobs as `job show` shows them."""
    listed = json.loads(caller.ask("GET", "/v1/jobs?limit=200")[1])["jobs"]
    jobs = {each["kind"]: each["id"] for each in listed}
    texts: list[str] = []
    for kind, options in (("robot-post", ["--json"]), ("message-send", [])):
        command = [*PYTHON, "dingrelay_producers.cli", "job", "show", jobs[kind], *options]
        done = processes.run(command, env=fleet.environment(), capture_output=True, check=True)
        texts.append(done.stdout.decode())
    return "\n".join(texts)


@pytest.mark.timeout(300)
def test_no_secret_comes_out(
    fleet: Fleet,
    gateway: GatewayProcess,
    sandbox: SandboxAdmin,
    valkey: Redis,
) -> None:
    sandbox.add_robot(ROBOT)
    key = made_key(fleet, "crm")
    (worker,) = fleet.spawn(1, DINGRELAY_LOG_FORMAT="json")
    wait_until(gateway.ready, timeout=60)
    caller = Caller(gateway, key)
    key_id, _, secret = key.partition(".")
    pair = urlencode({"appkey": key_id, "appsecret": secret})
    token = json.loads(caller.ask("GET", f"/gettoken?{pair}")[1])["access_token"]
    caller.answers.clear()
    everything(caller, key, token)
    for kind in ("http", "html", "truncated", "lost_answer", "throttle", "token_expired"):
        code = {"code": "90018"} if kind == "throttle" else {}
        sandbox.add_fault(kind, count=2, **code)
    for number in range(3):
        text_message = {"content": f"{BODY}{number}"}
        message = {"to": {"users": ["u3"]}, "message": {"msgtype": "text", "text": text_message}}
        caller.ask("POST", "/v1/messages?wait=2", message)
        called = {"method": "POST", "path": "/topapi/v2/user/get", "body": {"userid": BODY}}
        caller.ask("POST", "/v1/calls?wait=2", called)
    jobs = shown(fleet, caller)
    robots = [key for key, _ in found(valkey) if key.startswith("dingrelay:robot:")]
    records = "\n".join(f"{key} {value}" for key, value in found(valkey) if key not in robots)
    valkey.config_set("maxmemory-policy", "noeviction")
    valkey.config_set("maxmemory", 1)
    everything(caller, key, token)
    valkey.config_set("maxmemory", 0)
    valkey.execute_command("CLIENT", "PAUSE", 2_500, "ALL")
    caller.ask("POST", "/v1/messages", {"to": {"users": ["u2"]}, "message": TEXT})
    valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    caller.ask("GET", "/v1/jobs")
    assert gateway.stop() == 0
    worker.stop()
    outputs = {
        "gateway": gateway.log.read_text(),
        "worker": fleet.logs(),
        "answers": "\n".join(caller.answers).replace(json.dumps(token), ""),  # asked for
        "job show": jobs,
        "records": records,
    }
    for where, text in outputs.items():
        # A record holds the job, so its text and the signature of a robot's message.
        kept = () if where == "records" else (SIGN, BODY)
        for hidden in (secret, token, ROBOT, *kept):
            assert hidden not in text, where
