"""The gateway on a real socket, with a real Valkey."""

import asyncio
import base64
import hashlib
import http.client
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.language import CHINESE, translated
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import keys as redis_keys
from dingrelay_producers.store import record, scripts
from dingrelay_producers.store.scripts import Call
from dingrelay_tasks.sentence import en, with_parts
from dingrelay_workers.gateway.drop_in import job_call
from dingrelay_workers.gateway.server import listening
from dingrelay_workers.http.records import GatewayRecords
from dingrelay_workers.http.routes import NDJSON
from dingrelay_workers.limiter import overview
from support.drop_in import asking, token_of
from support.gateways import Ask, GatewayClient, MemoryBackend, Reply, body_seconds, gateway_thread
from support.servers import free_port

MESSAGE = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}


@pytest.fixture(scope="module")
def settings(shared_url: str) -> Settings:
    return Settings.load(env="sandbox", redis_url=shared_url)


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
def crm(gateway: GatewayClient) -> Ask:
    """Requests with a key that may do everything."""
    return gateway.by(gateway.backend.keys.add("crm"))


def lines(*jobs: object) -> bytes:
    return b"".join(json.dumps(job).encode() + b"\n" for job in jobs)


def send_lines(ask: Ask, content: bytes, **headers: str) -> list[Any]:
    """The answer to each line."""
    reply = ask("POST", "/v1/jobs", content, Content_Type=NDJSON, **headers)
    assert reply.status == 200, reply.content
    return [json.loads(line) for line in reply.content.splitlines()]


def pointers(reply: Reply) -> list[str]:
    return [error["pointer"] for error in reply.json.get("errors", [])]


def test_a_message_has_a_location(crm: Ask, client: Client) -> None:
    reply = crm("POST", "/v1/messages", MESSAGE)
    assert reply.status == 202, reply.content
    job = reply.json
    assert (job["kind"], job["state"], job["sender"]) == ("message-send", "queued", "crm")
    assert reply.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert client.status(job["id"]).to_json() == job


@pytest.mark.parametrize("later", [{}, {"send_at": "2030-01-01T09:00:00+08:00"}])
def test_a_message_that_was_just_accepted_is_not_read_again(
    crm: Ask, monkeypatch: pytest.MonkeyPatch, later: dict[str, str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(GatewayRecords, "status", None)
        reply = crm("POST", "/v1/messages", MESSAGE | later)
    assert reply.status == 202, reply.content
    assert crm("GET", reply.headers["Location"]).json == reply.json


def test_a_wrong_field_is_named_by_its_pointer(crm: Ask) -> None:
    body = {**MESSAGE, "message": {"msgtype": "text", "text": {"content": "x" * 5001}}}
    reply = crm("POST", "/v1/messages", body)
    assert (reply.status, pointers(reply)) == (422, ["/message/text/content"])
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json["type"] == "urn:dingrelay:problem:invalid"
    assert reply.json["request_id"] == reply.headers["X-Request-Id"]


def test_all_mistakes_of_a_job_are_named_at_once(crm: Ask) -> None:
    body = {**MESSAGE, "lane": "fast", "confrim": True, "to": {}}
    reply = crm("POST", "/v1/messages", body)
    assert (reply.status, pointers(reply)) == (422, ["/confrim", "/lane", "/to"])
    assert "did you mean `confirm`?" in reply.json["detail"]
    (line,) = send_lines(crm, json.dumps(body).encode())
    assert [error["pointer"] for error in line["error"]["errors"]] == pointers(reply)


def test_the_error_of_a_job_is_in_the_callers_language(crm: Ask, store: Redis) -> None:
    job_id = crm("POST", "/v1/messages", MESSAGE).json["id"]
    error = {
        "class": "permanent",
        "code": "unreadable",
        "message": en("HTTP {} without a readable answer", 418),
        "hint": en("Correct the job, then enqueue it again."),
    }
    store.hset(redis_keys.job(job_id), "error", json.dumps(with_parts(error)))
    english = crm("GET", f"/v1/jobs/{job_id}").json["error"]
    assert english == {"class": "permanent", "code": "unreadable"} | {
        name: error[name] for name in ("message", "hint")
    }
    ask = partial(crm, Accept_Language="zh")
    chinese = ask("GET", f"/v1/jobs/{job_id}").json["error"]
    assert chinese["message"] == translated(error["message"], CHINESE) != error["message"]
    assert chinese["hint"] == translated(error["hint"], CHINESE) != error["hint"]
    listed = {job["id"]: job for job in ask("GET", "/v1/jobs?limit=50").json["jobs"]}
    assert listed[job_id]["error"] == chinese
    assert ask("POST", f"/v1/jobs/{job_id}/cancel").json["error"] == chinese


@pytest.mark.parametrize(
    ("languages", "chinese"),
    [("zh-CN,zh;q=0.9,en;q=0.8", True), ("en-GB,zh;q=0.5", False), ("fr", False)],
)
def test_a_refusal_is_in_the_callers_language(crm: Ask, languages: str, chinese: bool) -> None:
    def say(english: str, translated: str) -> str:
        return translated if chinese else english

    title = say("The request is not what its contract says", "请求不符合约定")
    detail = say("is required", "必填")
    body = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {}}}
    ask = partial(crm, Accept_Language=languages)
    reply = ask("POST", "/v1/messages", body)
    problem = reply.json
    assert (reply.status, problem["type"]) == (422, "urn:dingrelay:problem:invalid")
    assert (problem["title"], problem["detail"]) == (
        title,
        "message.text.content" + say(": ", "：") + detail,
    )
    assert problem["errors"] == [{"pointer": "/message/text/content", "detail": detail}]
    assert reply.headers.get("Content-Language") == ("zh-CN" if chinese else None)
    first, second = (each["error"] for each in send_lines(ask, b'{"kind": "nope"}\n{'))
    assert (first["title"], first["status"], second["status"]) == (title, 422, 400)
    assert ask("GET", "/v1/nowhere").json["detail"] == say("no such path", "没有这个路径")
    wrong = ask("DELETE", "/v1/messages")
    takes = say("this path takes", "此路径只接受")
    assert (wrong.json["detail"], wrong.headers["Allow"]) == (f"{takes} POST", "POST")


def test_a_key_does_no_more_than_it_was_made_for(gateway: GatewayClient) -> None:
    grant: dict[str, Any] = {"apps": frozenset({"hr"}), "lanes": frozenset({"bulk"})}
    narrow = gateway.by(gateway.backend.keys.add("narrow", "messages:write", **grant))
    fits = {**MESSAGE, "app": "hr", "lane": "bulk"}
    for name, other in (("app", "default"), ("lane", "urgent"), ("sender", "other")):
        reply = narrow("POST", "/v1/messages", {**fits, name: other})
        assert (reply.status, pointers(reply)) == (403, [f"/{name}"]), reply.content
    assert narrow("POST", "/v1/messages", fits).status == 202


def test_a_repeated_key_is_one_job(gateway: GatewayClient, crm: Ask, store: Redis) -> None:
    first = crm("POST", "/v1/messages", MESSAGE, Idempotency_Key='"order-1"')
    again = crm("POST", "/v1/messages", MESSAGE, Idempotency_Key="order-1")
    assert (first.status, again.status) == (202, 202)
    assert first.content == again.content
    assert again.headers["Idempotent-Replayed"] == "true"
    reused = crm("POST", "/v1/messages", {**MESSAGE, "lane": "bulk"}, Idempotency_Key="order-1")
    assert reused.status == 422
    assert reused.json["type"] == "urn:dingrelay:problem:idempotency-key-reused"
    shop = gateway.by(gateway.backend.keys.add("shop"))
    theirs = shop("POST", "/v1/messages", MESSAGE, Idempotency_Key="order-1")
    assert theirs.json["id"] != first.json["id"]
    assert len(store.keys("dingrelay:job:*")) == 2


def test_any_api_is_called(crm: Ask, store: Redis) -> None:
    call = {"method": "POST", "path": "/topapi/v2/user/get", "query": {"access_token": "stolen"}}
    reply = crm("POST", "/v1/calls", {**call, "body": {"userid": "u1"}})
    assert (reply.status, reply.json["kind"]) == (202, "api-call"), reply.content
    assert b"stolen" not in repr(store.hgetall(redis_keys.job(reply.json["id"]))).encode()
    reply = crm("POST", "/v1/calls", {**call, "path": "https://evil.example/"})
    assert (reply.status, pointers(reply)) == (422, ["/path"])
    assert b"evil" not in reply.content


def test_health_needs_no_key(gateway: GatewayClient) -> None:
    for path in ("/healthz", "/readyz"):
        assert gateway.ask("GET", path).status == 200
        head = gateway.ask("HEAD", path)
        assert (head.status, head.content) == (200, b"")
    assert gateway.ask("GET", "/openapi.json").json["openapi"] == "3.1.0"
    assert gateway.ask("HEAD", "/v1/jobs").status == 405


def test_a_probe_that_is_spelled_wrong_finds_nothing(gateway: GatewayClient) -> None:
    """A load balancer reads any 200 as readiness, and DingTalk's old dialect refuses with a 200."""
    for near in (
        *("/readyz/", "/readyz/x", "//readyz", "/readyz//", "/READYZ", "/readyz;x", "/ready"),
        *("/healthz/", "/healthz/x", "/health", "/livez"),
        *("/openapi.json/", "/metrics/x", "/docs2"),
        *("/-/ready", "/-/healthy", "/actuator/health", "/actuator/health/readiness", "/ping/x"),
    ):
        for method in ("GET", "HEAD", "POST"):
            reply = gateway.ask(method, near)
            assert reply.status in {400, 404, 405}, (near, method, reply.content)
    # Whatever else carries a token is DingTalk's.
    assert gateway.ask("GET", "/checkin?access_token=x").json["sub_code"] == "40014"
    assert gateway.ask("GET", "/user/get").json["errcode"] == 88


def test_limits_of_other_apps_are_not_shown(
    gateway: GatewayClient, crm: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = ("app:default", "app:hr", "egress:default")
    gateway.backend.scopes = scopes
    monkeypatch.setattr(overview, "read", lambda *_: gateway.backend.limits())
    hr = gateway.by(gateway.backend.keys.add("hr", "limits:read", apps=frozenset({"hr"})))
    for ask, seen in ((hr, scopes[1:]), (crm, scopes)):
        assert [each["scope"] for each in ask("GET", "/v1/limits").json["buckets"]] == [*seen]


def test_an_approval_is_shown_to_authorised_keys_only(gateway: GatewayClient) -> None:
    ask, keys = asking(gateway.url), gateway.backend.keys
    keys.add("writer", "approvals:write", sender="*")
    keys.add("other", "approvals:read", sender="other")
    for name in ("writer", "other"):
        token = token_of(ask, f"drk_{name:0<12}", "secret")
        path = f"/topapi/processinstance/get?access_token={token}"
        refused = gateway.ask("POST", path, {"process_instance_id": "i-1"})
        assert refused.json["sub_code"] == "60011", name
    # DingTalk might read another one than the one that was looked at here.
    twice = gateway.ask("POST", f"{path}&process_instance_id=i-2", {"process_instance_id": "i-1"})
    assert twice.json["sub_code"] == "60011"


def test_a_key_of_robots_alone_has_no_app_at_the_door(
    gateway: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.1)
    ask, codes = asking(gateway.url), []
    for number, apps in enumerate(({"robots"}, {"group:oncall"}, {"hr", "group:oncall"})):
        gateway.backend.keys.add(f"key{number}", "calls:write", apps=frozenset(apps))
        token = token_of(ask, f"drk_{f'key{number}':0<12}", "secret")
        path = f"/topapi/attendance/list?access_token={token}"
        codes.append(gateway.ask("POST", path, {"userid": "u1"}).json["errcode"])
    assert codes == [88, 88, -1]  # the last one waits for a worker


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


def test_who_waits_for_a_job_is_answered_when_the_gateway_stops(settings: Settings) -> None:
    with gateway_thread(settings) as gateway, ThreadPoolExecutor(10) as pool:
        crm = gateway.by(gateway.backend.keys.add("crm"))
        waiting = [pool.submit(crm, "POST", "/v1/messages?wait=60", MESSAGE) for _ in range(10)]
        wait_until(lambda: len(crm("GET", "/v1/jobs").json["jobs"]) == 10)
        gateway.stop()
        replies = [each.result(timeout=30) for each in waiting]
    assert [(each.status, each.json["state"]) for each in replies] == [(202, "queued")] * 10
    assert len({each.headers["Location"] for each in replies}) == 10


def test_metrics_are_not_where_strangers_ask(gateway: GatewayClient) -> None:
    # The drop-in door answers it as it does any path.
    assert b"dingrelay_" not in gateway.ask("GET", "/metrics").content
    assert "dingrelay_gateway_requests_total" in gateway.metrics()


def test_a_lost_database_is_reported_unless_there_are_keys_in_use(settings: Settings) -> None:
    with gateway_thread(settings) as gateway:
        keys = gateway.backend.keys
        used = gateway.by(keys.add("used"))
        keys.away = True
        reply = used("POST", "/v1/messages", MESSAGE)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        ready = gateway.ask("GET", "/readyz")
        assert (ready.status, pointers(ready)) == (503, ["/database"])
        keys.any_known = True
        ready = gateway.ask("GET", "/readyz")
        assert (ready.status, ready.json) == (200, {"status": "ok", "database": "away"})


def test_a_job_is_waited_for(crm: Ask, client: Client) -> None:
    job_id = crm("POST", "/v1/messages", MESSAGE).json["id"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(crm, "GET", f"/v1/jobs/{job_id}?wait=30")
        client.cancel(job_id)
        reply = waiting.result(timeout=30)
    assert (reply.status, reply.json["state"]) == (200, "cancelled")
    late = crm("POST", "/v1/messages?wait=1", MESSAGE)
    assert (late.status, late.json["state"]) == (202, "queued")


def test_a_key_sees_the_jobs_of_its_own_sender_only(gateway: GatewayClient, crm: Ask) -> None:
    add = gateway.backend.keys.add
    shop, boss = gateway.by(add("shop")), gateway.by(add("boss", sender="*"))
    job_id = crm("POST", "/v1/messages", MESSAGE).json["id"]
    assert shop("GET", f"/v1/jobs/{job_id}").status == 404
    assert shop("GET", "/v1/jobs").json == {"jobs": [], "next": None}
    for ask in (crm, boss):
        assert ask("GET", f"/v1/jobs/{job_id}").json["id"] == job_id
        assert [job["id"] for job in ask("GET", "/v1/jobs").json["jobs"]] == [job_id]


def test_jobs_are_changed_as_from_the_command_line(crm: Ask) -> None:
    path = crm("POST", "/v1/messages", MESSAGE).headers["Location"]
    for verb, body, answer in (
        ("requeue", None, 409),
        ("cancel", {}, "cancelled"),
        ("requeue", None, "queued"),
        ("discard", None, 409),
        ("resolve", {"sent": True}, 409),
        ("resolve", {"instance": "x"}, 422),
        ("cancel", {"why": 1}, 422),
    ):
        reply = crm("POST", f"{path}/{verb}", body)
        assert answer in {reply.status, reply.json.get("state")}, (verb, body)


def test_a_named_approval_is_followed(crm: Ask, store: Redis) -> None:
    body = {"process_code": "PROC-1", "originator": "u1", "form": {"事由": "出差"}}
    job_id = crm("POST", "/v1/approvals", body).json["id"]
    store.hset(redis_keys.job(job_id), "state", "unknown")
    resolved = crm("POST", f"/v1/jobs/{job_id}/resolve", {"instance": "i-1"})
    assert (resolved.status, resolved.json["state"]) == (200, "done")
    follower = record.keyed_id("default", "approval-follow", "i-1")
    assert crm("GET", f"/v1/jobs/{follower}").json["state"] == "queued"


def test_a_list_is_read_page_by_page(crm: Ask) -> None:
    jobs = [
        {**MESSAGE, "lane": lane, "idempotency_key": f"{lane}{number}"}
        for lane in ("normal", "bulk")
        for number in range(30)
    ]
    send_lines(crm, lines(*jobs))
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = crm("GET", f"/v1/jobs?limit=25&state=queued{cursor}").json
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next"] and f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 60
    bulk = crm("GET", "/v1/jobs?lane=bulk&limit=200").json["jobs"]
    assert [job["lane"] for job in bulk] == ["bulk"] * 30
    for query in ("since=2100-01-01T00:00:00Z", "until=2000-01-01T00:00:00Z", "state=dead"):
        assert crm("GET", f"/v1/jobs?{query}").json["jobs"] == []
    assert crm("GET", "/v1/dead").json == {"jobs": [], "next": None}
    for query in ("limit=0", "cursor=x", "state=odd", "unknown=1", "limit=1&limit=2", "since=5"):
        reply = crm("GET", f"/v1/jobs?{query}")
        assert (reply.status, pointers(reply)[0]) == (422, f"?{query.partition('=')[0]}")


def test_a_script_that_redis_refuses_is_reported_as_redis_away(
    crm: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate a failover between the reads of index and records."""
    assert crm("POST", "/v1/messages", MESSAGE).status == 202

    async def refused(_: object, calls: Sequence[Call]) -> list[Any]:
        return [ResponseError("MASTERDOWN Link with MASTER is down") for _ in calls]

    monkeypatch.setattr(scripts, "run_many_async", refused)
    reply = crm("GET", "/v1/jobs")
    assert (reply.status, reply.json["detail"]) == (503, "Redis refuses: MASTERDOWN")


def test_a_stream_answers_a_line_a_job(gateway: GatewayClient, client: Client) -> None:
    lanes: Any = frozenset({"bulk", "normal"})
    bulk = gateway.by(gateway.backend.keys.add("bulk", "messages:write", lanes=lanes))
    approval = {"process_code": "P", "originator": "u", "form": {"a": "b"}}
    large = {"msgtype": "text", "text": {"content": "x" * 1_200_000}}
    asked: tuple[tuple[object, int | None], ...] = (
        (MESSAGE, 202),
        ("", None),
        ({**MESSAGE, "to": {"users": ["u2"]}}, 202),
        ("{", 400),
        ({"kind": "nope"}, 422),
        ({**MESSAGE, "lane": "urgent"}, 403),
        ({"kind": "approval-create", **approval}, 403),
        ({**MESSAGE, "idempotency_key": "k"}, 202),
        ({**MESSAGE, "idempotency_key": "k", "confirm": True}, 409),
        ("[1]", 422),
        ('{"to": {"users": ["u1"]}, "to": {}}', 400),
        ({**MESSAGE, "message": large}, 413),
    )
    texts = [each if isinstance(each, str) else json.dumps(each) for each, _ in asked]
    answers = send_lines(bulk, "\r\n".join(texts).encode())
    assert [(each["line"], each.get("error", {}).get("status", 202)) for each in answers] == [
        (number, status) for number, (_, status) in enumerate(asked, 1) if status
    ]
    # Equal messages to different people are one job of one call.
    assert answers[0]["id"] == answers[1]["id"]
    assert client.status(answers[0]["id"]).sender == "bulk"


def test_a_client_that_sends_before_it_reads(crm: Ask) -> None:
    count = 8_000
    reply = crm("POST", "/v1/jobs", b"{\n" * count, Content_Type=NDJSON)
    answers = reply.content.splitlines()
    assert [json.loads(each)["line"] for each in (answers[0], answers[-1])] == [1, count]
    assert len(answers) == count


def test_full_lanes_answer_retry_after(gateway: GatewayClient, crm: Ask) -> None:
    gateway.backend.rates.waits["crm"] = 2.5
    reply = crm("POST", "/v1/messages", MESSAGE)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "3")


def test_a_full_lane_takes_no_more(valkey_url: str) -> None:
    settings = Settings.load(env="sandbox", redis_url=valkey_url, gateway_queue_limit=1)
    with gateway_thread(settings) as gateway:
        crm = gateway.by(gateway.backend.keys.add("crm"))
        assert crm("POST", "/v1/messages", MESSAGE).status == 202
        wait_until(lambda: crm("POST", "/v1/messages", MESSAGE).status == 429)
        assert crm("POST", "/v1/messages", {**MESSAGE, "lane": "urgent"}).status == 202
        first, second = send_lines(crm, lines(MESSAGE, {**MESSAGE, "lane": "bulk"}))
        assert (first["error"]["status"], "id" in second) == (429, True)


def test_the_page_needs_nothing_from_elsewhere(gateway: GatewayClient) -> None:
    for path, text in (("/docs", "Send a work notification"), ("/docs?lang=zh", "发送工作通知")):
        reply = gateway.ask("GET", path)
        page, policy = reply.content.decode(), reply.headers["Content-Security-Policy"]
        assert (reply.status, text in page) == (200, True)
        assert not re.findall(r"<script|style=|onclick|(?:src|href)=\"(?!/|#)", page)
        [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert ("default-src 'none'" in policy, f"'sha256-{digest}'" in policy) == (True, True)


def test_other_methods_paths_and_types_are_problems(crm: Ask) -> None:
    for method, path, headers, status in (
        ("GET", "/v1/nothing", {}, 404),
        ("PUT", "/v1/messages", {}, 405),
        ("BREW", "/v1/messages", {}, 400),
        ("POST", "/v1/messages", {"Content_Type": "text/plain"}, 415),
        ("POST", "/v1/messages", {"Content_Type": "application/json; charset=gbk"}, 415),
        ("POST", "/v1/messages", {"Content_Encoding": "gzip"}, 415),
        ("POST", "/v1/messages", {"Idempotency_Key": "ü"}, 400),
    ):
        reply = crm(method, path, MESSAGE, **headers)
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
