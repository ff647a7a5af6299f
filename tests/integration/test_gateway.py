"""The gateway on a real socket, with a real Valkey."""

from collections.abc import Iterator

import pytest
from redis import Redis

from dingrelay_producers import Client
from dingrelay_producers.settings import Settings
from gateways import GatewayClient, gateway_thread

MESSAGE = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.load(env="sandbox", redis_url=valkey_url)


@pytest.fixture
def gateway(settings: Settings) -> Iterator[GatewayClient]:
    with gateway_thread(settings) as client:
        yield client


@pytest.fixture
def key(gateway: GatewayClient) -> str:
    return gateway.backend.keys.add("crm")


def test_a_message_is_a_job_whose_place_is_told(
    gateway: GatewayClient, key: str, settings: Settings
) -> None:
    reply = gateway.ask("POST", "/v1/messages", MESSAGE, key=key)
    assert reply.status == 202, reply.content
    job = reply.json
    assert (job["kind"], job["state"], job["sender"]) == ("message-send", "queued", "crm")
    assert reply.headers["Location"] == f"/v1/jobs/{job['id']}"
    with Client(settings) as client:
        assert client.status(job["id"]).to_json() == job


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


def test_the_same_request_with_the_same_key_is_one_job(
    gateway: GatewayClient, key: str, valkey_url: str
) -> None:
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


def test_health_needs_no_key(gateway: GatewayClient) -> None:
    assert gateway.ask("GET", "/healthz").status == 200
    assert gateway.ask("GET", "/readyz").status == 200
    assert b"dingrelay_gateway_requests_total" in gateway.ask("GET", "/metrics").content
    assert gateway.ask("GET", "/openapi.json").json["openapi"] == "3.1.0"


def test_what_is_away_is_told(gateway: GatewayClient, key: str) -> None:
    gateway.backend.keys.away = True
    reply = gateway.ask("POST", "/v1/messages", MESSAGE, key=key)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
    ready = gateway.ask("GET", "/readyz")
    assert ready.status == 503
    assert [error["pointer"] for error in ready.json["errors"]] == ["/database"]
