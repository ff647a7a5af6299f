"""Events reach an app through a stream; everything that DingTalk's streams are known to do."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import pytest

from conftest import wait_until_async
from dingrelay_sandbox.admin import Row, SandboxAdmin, SandboxError
from support.callbacks import AES_KEY, TOKEN, receiving
from support.streams import EVERYTHING, OPEN, Connection, StreamClient


@pytest.fixture
async def client(sandbox: SandboxAdmin) -> AsyncIterator[StreamClient]:
    # Waits are short, answers may take as long as on a busy machine.
    sandbox.set_delivery(scale=0.01)
    client = StreamClient(sandbox.base_url)
    yield client
    await client.close()
    sandbox.reset()


def delivery(sandbox: SandboxAdmin, event_id: str) -> Row:
    (found,) = sandbox.event(event_id)["deliveries"]
    return found


async def tried(sandbox: SandboxAdmin, event_id: str) -> None:
    await wait_until_async(lambda: delivery(sandbox, event_id)["attempts"])


async def ended(sandbox: SandboxAdmin, event_id: str, state: str = "delivered") -> list[Row]:
    """The tries of an event, once it is delivered, or has failed."""
    await wait_until_async(lambda: delivery(sandbox, event_id)["state"] != "waiting")
    found = delivery(sandbox, event_id)
    assert (found["way"], found["state"]) == ("stream", state)
    return found["attempts"]


async def all_delivered(sandbox: SandboxAdmin, count: int) -> None:
    await wait_until_async(lambda: sandbox.events_summary()["delivered"] == count)


async def registered(client: StreamClient, **fields: Any) -> Connection:
    """A new connection that events go to."""
    connection = await client.open(**fields)
    await wait_until_async(lambda: connection.of("SYSTEM", "REGISTERED"))
    return connection


async def test_a_ticket_needs_the_secret(sandbox: SandboxAdmin, client: StreamClient) -> None:
    for wrong in ({"clientSecret": "wrong"}, {"clientId": "stranger"}):
        status, answer = await client.ask(**wrong)
        assert (status, answer["code"]) == (401, "authFailed")
    for subscriptions in ([], [{"type": "EVENT", "topic": "x"}], [{"type": "X", "topic": "*"}]):
        status, answer = await client.ask(subscriptions=subscriptions)
        assert (status, answer["code"]) == (400, "invalidParameter")
    assert sandbox.audit()["calls"][OPEN] == {"token": 2, "error": 3}


def test_json_is_answered_only_where_it_is_accepted(sandbox: SandboxAdmin) -> None:
    secret = {"clientId": "sandbox-key", "clientSecret": "sandbox-secret"}
    wanted = json.dumps(secret | {"subscriptions": EVERYTHING}).encode()
    headers = {"Content-Type": "application/json", "Accept": "*/*"}
    with urlopen(Request(f"{sandbox.base_url}{OPEN}", wanted, headers)) as answer:
        assert answer.read().startswith(b"<")


async def test_a_ticket_works_once_and_briefly(sandbox: SandboxAdmin, client: StreamClient) -> None:
    _, answer = await client.ask()
    connection = await client.use(answer["endpoint"], answer["ticket"])
    await wait_until_async(lambda: connection.of("SYSTEM", "REGISTERED"))
    for ticket in (answer["ticket"], "never"):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await client.use(answer["endpoint"], ticket)
    sandbox.set_delivery(ticket=0)
    _, late = await client.ask()
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await client.use(late["endpoint"], late["ticket"])


async def test_an_event_is_a_frame(sandbox: SandboxAdmin, client: StreamClient) -> None:
    connection = await registered(client)
    sandbox.put_user("newcomer", dept_id_list=[2])
    await wait_until_async(lambda: connection.events)
    (frame,) = connection.of("EVENT", "*")
    (event,) = sandbox.events()
    data = json.loads(frame["data"])
    assert (frame["specVersion"], data["userId"]) == ("1.0", ["newcomer"])
    headers = frame["headers"]
    assert (headers["eventType"], headers["eventId"]) == ("user_add_org", event["id"])
    assert headers["eventCorpId"] == "sandbox-corp"
    assert int(headers["eventBornTime"]) == int(event["at"] * 1_000)
    assert all(isinstance(value, str) for value in headers.values())
    (attempt,) = await ended(sandbox, event["id"])
    (stream,) = sandbox.streams()
    assert (attempt["outcome"], attempt["connection"]) == ("success", stream["id"])
    assert (stream["events"], stream["acknowledged"], stream["state"]) == (1, 1, "open")
    assert stream["subscriptions"] == ["EVENT *"]


async def test_only_subscribers_get_events(sandbox: SandboxAdmin, client: StreamClient) -> None:
    robot = [{"type": "CALLBACK", "topic": "/v1.0/im/bot/messages/get"}]
    await registered(client, subscriptions=robot)
    assert sandbox.event(sandbox.fire("user_add_org"))["deliveries"] == []
    with receiving() as receiver:
        sandbox.put_callback(receiver.url, token=TOKEN, aes_key=AES_KEY)
        connection = await registered(client)
        sandbox.fire("user_add_org")
        await wait_until_async(lambda: receiver.events)
    # An app has one way: as long as it has a callback, events go there.
    assert connection.events == []


@pytest.mark.parametrize(
    ("worth", "outcome"),
    [
        ((200, '{"status": "LATER"}'), "LATER"),
        ((500, "{}"), "code 500"),
        ((404, '{"userId": ["u1"]}'), "code 404"),
    ],
)
async def test_events_that_are_not_taken_come_again(
    sandbox: SandboxAdmin, client: StreamClient, worth: tuple[int, str], outcome: str
) -> None:
    connection = await registered(client)
    connection.worth = worth
    event_id = sandbox.fire("user_add_org")
    await wait_until_async(lambda: len(connection.events) == 2)
    # The event's own data with 200 is how the Python client says yes.
    connection.worth = (200, '{"userId": ["u1"]}')
    attempts = await ended(sandbox, event_id)
    assert {attempt["outcome"] for attempt in attempts[:-1]} == {outcome}
    assert attempts[1]["at"] - attempts[0]["at"] >= 0.155
    assert set(connection.events) == {event_id}
    frames = connection.of("EVENT")
    assert len({frame["headers"]["messageId"] for frame in frames}) == len(frames)


async def test_unanswered_events_come_again(sandbox: SandboxAdmin, client: StreamClient) -> None:
    sandbox.set_delivery(acknowledgement=0.05, redeliveries=2)
    connection = await registered(client)
    connection.worth = None
    event_id = sandbox.fire("user_add_org")
    # None of these is an answer.
    for text in ("nonsense", "[]", '{"headers": {"messageId": "another"}, "code": 200}'):
        await connection.socket.send_str(text)
    attempts = await ended(sandbox, event_id, "failed")
    assert [attempt["outcome"] for attempt in attempts] == ["no answer"] * 3
    assert len(connection.events) == 3


async def test_connections_share_the_load(sandbox: SandboxAdmin, client: StreamClient) -> None:
    connections = [await registered(client) for _ in range(3)]
    sandbox.fire_many([{"type": "user_add_org"}] * 150)
    await all_delivered(sandbox, 150)
    shares = [len(connection.events) for connection in connections]
    assert sum(shares) == 150
    assert min(shares) > 20
    ids = [each for connection in connections for each in connection.events]
    assert len(set(ids)) == 150


async def test_events_wait_for_a_connection(sandbox: SandboxAdmin, client: StreamClient) -> None:
    await client.ask()
    event_id = sandbox.fire("user_add_org")
    await tried(sandbox, event_id)
    connection = await client.open()
    attempts = await ended(sandbox, event_id)
    assert attempts[0]["outcome"] == "no connection"
    assert connection.events == [event_id]


async def test_pings_are_answered(sandbox: SandboxAdmin, client: StreamClient) -> None:
    connection = await client.open()
    await wait_until_async(lambda: connection.of("SYSTEM", "ping"))
    await wait_until_async(lambda: sandbox.streams()[0]["pongs"] >= 1)
    # And those of the client's own.
    await connection.socket.ping()


async def test_a_disconnect_keeps_tcp_open(sandbox: SandboxAdmin, client: StreamClient) -> None:
    first = await registered(client)
    sandbox.set_delivery(scale=0.05)
    assert sandbox.act_on_streams("disconnect") == 1
    await wait_until_async(lambda: first.of("SYSTEM", "disconnect"))
    assert "reason" in json.loads(first.of("SYSTEM", "disconnect")[0]["data"])
    second = await registered(client)
    sandbox.fire_many([{"type": "user_add_org"}] * 20)
    await all_delivered(sandbox, 20)
    assert (first.events, len(second.events)) == ([], 20)
    await wait_until_async(first.closed.is_set)
    assert [each["state"] for each in sandbox.streams()] == ["closed", "open"]


async def test_dropped_connections_redeliver(sandbox: SandboxAdmin, client: StreamClient) -> None:
    connections = [await registered(client) for _ in range(2)]
    for connection in connections:
        connection.worth = None
    ids = sandbox.fire_many([{"type": "user_add_org"}] * 10)
    await wait_until_async(lambda: sum(len(each.events) for each in connections) == 10)
    assert sandbox.act_on_streams("drop") == 2
    await wait_until_async(lambda: all(each.closed.is_set() for each in connections))
    last = await client.open()
    await all_delivered(sandbox, 10)
    assert set(last.events) == set(ids)
    (attempt, *_) = sandbox.event(ids[0])["deliveries"][0]["attempts"]
    assert attempt["outcome"] == "connection lost"


async def test_a_dead_connection_is_fed(sandbox: SandboxAdmin, client: StreamClient) -> None:
    first = await registered(client)
    sandbox.set_delivery(redeliveries=50)
    assert sandbox.act_on_streams("die") == 1
    await wait_until_async(first.closed.is_set)
    event_id = sandbox.fire("user_add_org")
    await tried(sandbox, event_id)
    second = await client.open()
    attempts = await ended(sandbox, event_id)
    assert attempts[0]["outcome"] == "fed to a dead connection"
    assert (first.events, second.events) == ([], [event_id])
    await wait_until_async(lambda: sandbox.streams()[0]["state"] == "closed")


async def test_a_dead_connection_loses_events(sandbox: SandboxAdmin, client: StreamClient) -> None:
    first = await registered(client)
    sandbox.set_delivery(scale=1)
    sandbox.act_on_streams("die", connection=sandbox.streams()[0]["id"], lossy=True)
    (attempt,) = await ended(sandbox, sandbox.fire("user_add_org"), "failed")
    assert attempt["outcome"] == "fed to a dead connection"
    assert first.events == []


async def test_registered_never_comes(sandbox: SandboxAdmin, client: StreamClient) -> None:
    sandbox.add_event_fault("no_registered", count=1)
    connection = await client.open()
    event_id = sandbox.fire("user_add_org")
    await ended(sandbox, event_id)
    assert connection.of("SYSTEM", "CONNECTED")
    assert connection.of("SYSTEM", "REGISTERED") == []
    await registered(client)


async def test_a_deaf_connection_has_pings(sandbox: SandboxAdmin, client: StreamClient) -> None:
    sandbox.set_delivery(acknowledgement=0.05)
    number = sandbox.add_event_fault("deaf")
    deaf = await registered(client)
    event_id = sandbox.fire("user_add_org")
    await tried(sandbox, event_id)
    await wait_until_async(lambda: deaf.of("SYSTEM", "ping"))
    sandbox.delete_event_fault(number)
    # The next may take as long for its answer as a busy machine does.
    sandbox.set_delivery(acknowledgement=3)
    good = await client.open()
    await ended(sandbox, event_id)
    assert (deaf.events, good.events) == ([], [event_id])


async def test_a_half_dead_connection_is_mute(sandbox: SandboxAdmin, client: StreamClient) -> None:
    sandbox.set_delivery(acknowledgement=0.05, redeliveries=1)
    connection = await registered(client)
    assert sandbox.act_on_streams("silence", app="another") == 0
    assert sandbox.act_on_streams("silence") == 1
    so_far = len(connection.frames)
    await connection.socket.ping()
    attempts = await ended(sandbox, sandbox.fire("user_add_org"), "failed")
    assert [attempt["outcome"] for attempt in attempts] == ["no answer"] * 2
    assert len(connection.frames) <= so_far + 1
    assert sandbox.streams()[0]["state"] == "open"
    assert not connection.closed.is_set()
    sandbox.add_event_fault("silent", count=1)
    silent = await client.open()
    assert silent.frames == []


async def test_an_event_is_doubled_or_lost(sandbox: SandboxAdmin, client: StreamClient) -> None:
    connection = await registered(client)
    sandbox.add_event_fault("duplicate", way="stream", types=["twice"], max_ms=10)
    sandbox.add_event_fault("swallow", way="stream", types=["never"])
    twice, _ = sandbox.fire("twice"), sandbox.fire("never")
    await wait_until_async(lambda: len(connection.events) == 2)
    assert connection.events == [twice, twice]
    summary = sandbox.events_summary()
    assert (summary["delivered"], summary["swallowed"]) == (2, 1)


async def test_apps_have_their_own_streams(sandbox: SandboxAdmin, client: StreamClient) -> None:
    sandbox.add_app(app_key="few", app_secret="x", agent_id="2", departments=[2])
    first = await registered(client)
    second = await registered(client, clientId="few", clientSecret="x")
    sandbox.put_user("outside", dept_id_list=[3])
    sandbox.put_user("inside", dept_id_list=[2])
    await all_delivered(sandbox, 3)
    assert (len(first.events), len(second.events)) == (2, 1)
    with pytest.raises(SandboxError, match="action"):
        sandbox.act_on_streams("explode")  # type: ignore[arg-type]


async def test_a_reset_ends_streams(sandbox: SandboxAdmin, client: StreamClient) -> None:
    connection = await registered(client)
    sandbox.reset()
    await wait_until_async(connection.closed.is_set)
    assert sandbox.streams() == []
