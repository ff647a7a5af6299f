"""The sandbox as a process: what its faults do on the wire, and how it starts and stops."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from typer.testing import CliRunner

from conftest import wait_until
from dingrelay_sandbox.__main__ import app as program
from dingrelay_sandbox.admin import OutageKind, Row, SandboxAdmin, SandboxError
from support import processes

SEND = "/topapi/message/corpconversation/asyncsend_v2"
INSTANCES = "/v1.0/workflow/processInstances"
TO_U1 = {
    "agent_id": 1000001,
    "userid_list": "u1",
    "msg": {"msgtype": "text", "text": {"content": "x"}},
}
LEAVE = {
    "processCode": "PROC-LEAVE",
    "originatorUserId": "u1",
    "deptId": -1,
    "formComponentValues": [{"name": "事由", "value": "出差"}],
}


class App:
    """A client of DingTalk's API."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self.connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        query = urlencode({"appkey": "sandbox-key", "appsecret": "sandbox-secret"})
        self.token = self.call("GET", f"/gettoken?{query}")["access_token"]

    token = ""

    def ask(
        self, method: str, path: str, payload: Any = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The response to a call, and its body."""
        body = None if payload is None else json.dumps(payload)
        headers = {"x-acs-dingtalk-access-token": self.token, "Content-Type": "application/json"}
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        return response, response.read()

    def call(self, method: str, path: str, payload: Any = None) -> dict[str, Any]:
        _, body = self.ask(method, path, payload)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def post(self, path: str, payload: Any) -> dict[str, Any]:
        return self.call("POST", f"{path}?access_token={self.token}", payload)

    def send(self) -> dict[str, Any]:
        return self.post(SEND, TO_U1)

    def verdict(self) -> str:
        """How a send ended: its errcode, the HTTP status of what is no JSON, or the connection."""
        try:
            response, body = self.ask("POST", f"{SEND}?access_token={self.token}", TO_U1)
        except http.client.RemoteDisconnected:
            return "closed"
        except ConnectionResetError:
            return "reset"
        try:
            return str(json.loads(body)["errcode"])
        except ValueError:
            return str(response.status)


def delivered(sandbox: SandboxAdmin) -> list[Row]:
    return [entry for user in ("u1", "u2") for entry in sandbox.inbox(user)["delivered"]]


@pytest.fixture
def app(sandbox: SandboxAdmin) -> Iterator[App]:
    app = App(sandbox.base_url)
    yield app
    app.connection.close()


def test_a_hanging_call_says_nothing(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.add_fault("hang", count=1)
    app.connection.timeout = 0.3
    app.connection.close()
    with pytest.raises(TimeoutError):
        app.send()
    wait_until(lambda: sandbox.audit()["faults"] == {"hang": 1})
    app.connection.timeout = 30
    app.connection.close()
    assert app.send()["errcode"] == 0


def test_latency_comes_before_the_verdict(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.set_latency(80, 80)
    began = time.monotonic()
    app.send()
    took = time.monotonic() - began
    arrived = sandbox.calls(api=SEND)[0]["monotonic"]
    # A timer may ring a millisecond early, and a busy machine only makes it later.
    assert arrived - began >= 0.07
    assert took >= 0.15


def test_latency_may_come_after_the_effect(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.add_fault("latency", effect=True, api=SEND, min_ms=60_000, max_ms=60_000)
    slow = App(sandbox.base_url)
    slow.connection.timeout = 0.3
    slow.connection.close()
    with pytest.raises(TimeoutError):
        slow.send()
    slow.connection.close()
    wait_until(lambda: [entry["user"] for entry in delivered(sandbox)] == ["u1"])


def test_an_answer_counts_as_taken_once_its_client_makes_another_call(
    sandbox: SandboxAdmin, app: App
) -> None:
    app.send()
    app.send()
    wait_until(lambda: sandbox.calls(api=SEND)[-1]["answered"] is not None)
    taken, latest = sandbox.calls(api=SEND)
    assert taken["counted"]
    assert taken["connection"] == latest["connection"]
    assert (taken["closed"], latest["closed"]) == (None, None)
    app.connection.close()
    wait_until(lambda: sandbox.calls(api=SEND)[-1]["closed"] is not None)
    taken, latest = sandbox.calls(api=SEND)
    assert taken["closed"] is None
    assert latest["closed"] >= latest["answered"]


def test_a_client_that_gives_up_has_left_before_the_answer(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.add_fault("latency", effect=True, api=SEND, min_ms=1_000, max_ms=1_000)
    app.connection.close()
    app.connection.timeout = 0.3
    with pytest.raises(TimeoutError):
        app.send()
    app.connection.close()
    wait_until(lambda: any(each["answered"] for each in sandbox.calls(api=SEND)))
    (given_up,) = sandbox.calls(api=SEND)
    assert given_up["closed"] < given_up["answered"]


def test_the_organisation_can_be_changed_and_compared(sandbox: SandboxAdmin) -> None:
    sandbox.put_department(99, name="新部门", parent_id=2)
    sandbox.put_user("new/one", name="新人", dept_id_list=[99])
    sandbox.delete_user("u2")
    organisation = sandbox.organisation()
    users = {each["userid"]: each for each in organisation["users"]}
    assert users["new/one"]["dept_id_list"] == [99]
    assert "u2" not in users
    assert {each["dept_id"] for each in organisation["departments"]} == {*range(1, 11), 99}
    sandbox.delete_user("new/one")
    sandbox.delete_department(99)
    sandbox.reset()
    assert sandbox.health() == {"status": "ok", "users": 200, "departments": 10}


def test_apps_templates_robots_and_tokens(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.add_app(app_key="k", app_secret="s", agent_id="7", organisation="other-corp")
    other = app.call("GET", "/gettoken?appkey=k&appsecret=s")["access_token"]
    assert other != app.token
    sandbox.add_template("PROC-NEW", ["a"])
    form = [{"name": "a", "value": "1"}]
    new = {**LEAVE, "processCode": "PROC-NEW", "formComponentValues": form}
    assert "instanceId" in app.call("POST", INSTANCES, new)
    sandbox.add_robot("r")
    text = {"msgtype": "text", "text": {"content": "x"}}
    assert app.call("POST", "/robot/send?access_token=r", text)["errcode"] == 0
    assert sandbox.robot_posts()[0]["robot"] == "r"
    sandbox.expire_tokens("sandbox-key")
    assert app.send()["sub_code"] == "42001"
    sandbox.revoke_tokens()
    assert app.send()["sub_code"] == "40014"
    audit = sandbox.audit()
    assert (audit["token_fetches"], audit["tokens_issued"], audit["tokens_live"]) == (2, 2, 0)


def test_an_approval_is_decided_and_deleted_from_outside(sandbox: SandboxAdmin, app: App) -> None:
    kind = {"label": "类型", "type": "DDSelectField", "options": ["甲"], "required": True}
    sandbox.add_template("PROC-NEW", ["事由", kind], name="新", approvers=["u2", "u3"])
    form = [{"name": "类型", "value": "甲"}]
    new = {**LEAVE, "processCode": "PROC-NEW", "formComponentValues": form}
    first, second = (app.call("POST", INSTANCES, new)["instanceId"] for _ in range(2))
    assert sandbox.advance(first) == {"status": "RUNNING", "result": ""}
    assert sandbox.advance(first, "refuse") == {"status": "COMPLETED", "result": "refuse"}
    assert sandbox.advance(second, to_end=True)["result"] == "agree"
    with pytest.raises(SandboxError, match="COMPLETED"):
        sandbox.advance(second)
    sandbox.delete_approval(first)
    gone = app.call("GET", f"{INSTANCES}?processInstanceId={first}")
    assert gone["code"] == "processInstanceNotExist"
    assert [each["id"] for each in sandbox.approvals()] == [second]


def test_each_person_may_act_on_an_approval_from_outside(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.add_template("PROC-NEW", approvers=["u2", "u3"])
    new = {**LEAVE, "processCode": "PROC-NEW"}
    first, second = (app.call("POST", INSTANCES, new)["instanceId"] for _ in range(2))
    sandbox.act(first, "comment", "u9", remark="快")
    with pytest.raises(SandboxError, match="no open task of u3"):
        sandbox.act(first, "agree", "u3")
    with pytest.raises(SandboxError, match="stranger"):
        sandbox.act(first, "redirect", "u2", to="stranger")
    with pytest.raises(SandboxError, match="a person must be named"):
        sandbox.act(first, "redirect", "u2")
    sandbox.act(first, "redirect", "u2", to="u4", remark="请看")
    assert sandbox.act(first, "agree", "u4") == {"status": "RUNNING", "result": ""}
    assert sandbox.act(first, "refuse", "u3", remark="不")["result"] == "refuse"
    assert sandbox.act(second, "terminate", "u1")["status"] == "TERMINATED"
    with pytest.raises(SandboxError, match="TERMINATED"):
        sandbox.act(second, "agree", "u2")
    refused, withdrawn = sandbox.approvals()
    assert [(each["user"], each["type"], each["remark"]) for each in refused["records"][1:]] == [
        ("u9", "ADD_REMARK", "快"),
        ("u2", "REDIRECT_TASK", "请看"),
        ("u4", "EXECUTE_TASK_NORMAL", ""),
        ("u3", "EXECUTE_TASK_NORMAL", "不"),
    ]
    assert withdrawn["finished_at"] is not None
    kinds = [event["fields"]["type"] for event in sandbox.events(kind="bpms_instance_change")]
    assert kinds == ["start", "start", "finish", "terminate"]


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("503", "503"), ("busy", "-1"), ("html", "502"), ("close", "closed"), ("reset", "reset")],
)
def test_an_outage_of_one_api_is_a_fault_of_its_calls(
    sandbox: SandboxAdmin, app: App, kind: OutageKind, verdict: str
) -> None:
    outage = sandbox.outage(kind, api=SEND)
    assert app.verdict() == verdict
    assert app.call("POST", INSTANCES, LEAVE)["instanceId"]
    assert sandbox.fault(outage)["met"] == 1
    sandbox.delete_fault(outage)
    app.connection.close()
    assert app.verdict() == "0"
    assert (sandbox.fault(outage)["met"], sandbox.fault(outage)["over"]) == (1, True)


def test_an_outage_may_carry_out_what_it_is_asked(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.outage("503", api=SEND, effect=True)
    sandbox.outage("close", dialect="rest", effect=True)
    with pytest.raises(json.JSONDecodeError):
        app.send()
    with pytest.raises(http.client.RemoteDisconnected):
        app.call("POST", INSTANCES, LEAVE)
    assert (sandbox.audit()["delivered"], len(sandbox.approvals())) == (1, 1)


def test_refused_connections_are_refused_by_the_kernel(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.refuse_connections(60)
    assert app.verdict() in {"closed", "reset"}
    app.connection.close()
    with pytest.raises(ConnectionRefusedError):
        app.connection.connect()
    assert sandbox.audit()["calls"].get(SEND) is None
    sandbox.accept_connections()
    assert app.verdict() == "0"
    app.connection.close()
    sandbox.refuse_connections(0.05)
    wait_until(lambda: accepts(app))


def accepts(app: App) -> bool:
    try:
        app.connection.connect()
    except ConnectionRefusedError:
        return False
    return True


def test_the_clock_is_in_the_date_of_each_answer(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.set_clock(-86_400)
    response, _ = app.ask("GET", "/gettoken")
    date = parsedate_to_datetime(str(response.getheader("Date"))).timestamp()
    clock = sandbox.clock()
    assert clock["offset"] == -86_400
    assert date <= clock["now"] < date + 60
    assert time.time() - clock["now"] > 86_000


def test_a_secret_that_was_changed(sandbox: SandboxAdmin, app: App) -> None:
    fetch = "/gettoken?appkey=sandbox-key&appsecret=sandbox-secret"
    sandbox.change_secret("sandbox-key", "another")
    assert app.call("GET", fetch)["errcode"] == 40_096
    sandbox.change_secret("sandbox-key", "sandbox-secret")
    assert app.call("GET", fetch)["errcode"] == 0
    refused = sandbox.refuse_credentials(app="sandbox-key")
    assert app.call("GET", fetch)["errcode"] == 40_096
    sandbox.delete_fault(refused)
    assert app.call("GET", fetch)["access_token"] == app.token


def test_answers_of_the_new_host_carry_their_id(app: App) -> None:
    response, body = app.ask("GET", f"{INSTANCES}?processInstanceId=x")
    request_id = json.loads(body)["requestid"]
    assert response.getheader("x-acs-dingtalk-request-id") == request_id


def test_a_fault_may_set_headers(sandbox: SandboxAdmin, app: App) -> None:
    headers = {"Content-Type": "application/xml", "X-Said": "yes"}
    sandbox.add_fault("http", body="<x/>", status=429, headers=headers)
    response, body = app.ask("GET", "/gettoken")
    assert (response.status, body) == (429, b"<x/>")
    assert response.getheader("Content-Type") == "application/xml"
    assert response.getheader("X-Said") == "yes"


def test_a_wrong_admin_call_says_what_is_wrong(sandbox: SandboxAdmin) -> None:
    with pytest.raises(SandboxError, match="calls"):
        sandbox.set_limits(calls="many")
    with pytest.raises(SandboxError, match="kind"):
        sandbox.add_fault("nonsense")
    with pytest.raises(SandboxError, match="stranger"):
        sandbox.delete_user("stranger")
    assert sandbox.limits()["calls"] == "20/1s"


def test_a_hundred_thousand_people(sandbox: SandboxAdmin, app: App) -> None:
    sandbox.seed(users=100_000, departments=2_000)
    assert sandbox.health()["users"] == 100_000
    children = app.post("/topapi/v2/department/listsub", {"dept_id": 1})["result"]
    assert [child["dept_id"] for child in children] == list(range(2, 10))
    page = {"dept_id": 1_234, "cursor": 0, "size": 100}
    assert app.post("/topapi/v2/user/list", page)["result"]["list"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_quickly_even_while_a_call_hangs(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "dingrelay_sandbox", "--port", "0", "--latency", "0"]
    with processes.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        admin = SandboxAdmin(server.stdout.readline().split()[-1])
        app = App(admin.base_url)
        admin.add_fault("hang")
        broken = list[Exception]()

        def hang() -> None:
            try:
                app.send()
            except OSError as error:
                broken.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        while admin.audit()["faults"] != {"hang": 1}:
            assert thread.is_alive(), broken
        server.send_signal(number)
        # The call hangs until its client gives up after 30 s, or the server does not wait for it.
        assert server.wait(60) == 0
        thread.join()
        assert [isinstance(error, TimeoutError) for error in broken] == [False]
        assert server.stderr.read() == ""
        app.connection.close()
        admin.close()


@pytest.mark.parametrize(
    "option", [["--calls", "many"], ["--latency", "long"], ["--window", "round"]]
)
def test_wrong_options_are_refused(option: list[str]) -> None:
    ended = CliRunner().invoke(program, option)
    assert ended.exit_code == 2
    assert isinstance(ended.exception, SystemExit)


def test_its_first_page_links_to_what_it_shows(sandbox: SandboxAdmin, app: App) -> None:
    app.send()
    _, page = app.ask("GET", "/_sandbox/")
    links = re.findall(r'href="([^"]+)"', page.decode())
    assert {"inbox/u1", "inboxes", "approvals", "robots", "organisation", "audit"} <= {*links}
    for link in links:
        assert app.ask("GET", f"/_sandbox/{link}")[0].status == 200, link
