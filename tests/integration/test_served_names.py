"""Apps, robots and groups that no worker serves: refused at every door, with names that are near."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from dingrelay_producers import AsyncClient, Client
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.served_names import UNKNOWN_SECONDS
from dingrelay_tasks import ContractError, MessageSend, RobotMessage
from dingrelay_workers.http.routes import NDJSON
from dingrelay_workers.maintenance import served_names
from support.command_line import Cli
from support.drop_in import asking, token_of
from support.gateways import Ask, GatewayClient, gateway_thread

TEXT = {"msgtype": "text", "text": {"content": "你好"}}
MESSAGE = {"to": {"users": ["u1"]}, "message": TEXT}
NEAR = "no worker serves hrr; did you mean hr?"


@pytest.fixture
async def fleet(redis: AsyncRedis) -> None:
    """Names published by workers that have two apps, a robot and a group."""
    settings = Settings.load(
        env="test",
        redis_url="redis://127.0.0.1/0",
        apps={"hr": {}, "crm": {}},
        groups={"oncall": {"robots": ["ops"]}},
    )
    await served_names.publish(redis, served_names.names_of_settings(settings))


@pytest.fixture
def gateway(settings: Settings) -> Iterator[GatewayClient]:
    with gateway_thread(settings) as gateway:
        yield gateway


@pytest.fixture
def everything(fleet: None, gateway: GatewayClient) -> Ask:
    """Requests with a key for all apps."""
    return gateway.by(gateway.backend.keys.add("all", sender="*"))


def message(**fields: Any) -> MessageSend:
    return MessageSend.parse({**MESSAGE, **fields})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("messages", MESSAGE),
        ("user-syncs", {}),
        ("calls", {"method": "POST", "path": "/topapi/v2/user/get", "body": {"userid": "u1"}}),
        ("campaigns", {"name": "x", "message": TEXT, "recipients": [{"userid": "u1"}]}),
    ],
)
def test_an_unknown_app_is_refused_with_the_near_one(
    everything: Ask, store: Redis, path: str, body: dict[str, Any]
) -> None:
    none = "no worker serves robots; there are crm, hr"
    for app, detail in (("hrr", NEAR), ("robots", none)):  # which is the app of robots' jobs only
        refused = everything("POST", f"/v1/{path}", {**body, "app": app})
        assert refused.status == 422, refused.content
        assert refused.json["errors"] == [{"pointer": "/app", "detail": detail}]
    assert store.keys("dingrelay:job:*") == []


@pytest.mark.parametrize(
    ("to", "pointer", "detail"),
    [
        ({"group": "onkall"}, "/to/group", "no worker serves onkall; did you mean oncall?"),
        ({"robot": "other"}, "/to/robot", "no worker serves other; there are ops"),
    ],
)
def test_an_unknown_robot_or_group_is_refused(
    everything: Ask, to: dict[str, str], pointer: str, detail: str
) -> None:
    refused = everything("POST", "/v1/robot-messages", {"to": to, "message": TEXT})
    assert (refused.status, refused.json["errors"]) == (
        422,
        [{"pointer": pointer, "detail": detail}],
    )
    known = everything("POST", "/v1/robot-messages", {"to": {"group": "oncall"}, "message": TEXT})
    assert (known.status, known.headers.get("Warning")) == (202, None)


def test_a_stream_refuses_the_line(everything: Ask) -> None:
    lines = [{**MESSAGE, "app": app} for app in ("hr", "hrr")]
    lines.append({"kind": "robot-message", "to": {"group": "onkall"}, "message": TEXT})
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    reply = everything("POST", "/v1/jobs", content, Content_Type=NDJSON)
    first, second, third = [json.loads(line) for line in reply.content.splitlines()]
    assert first["id"]
    assert second["error"]["errors"] == [{"pointer": "/app", "detail": NEAR, "line": None}]
    assert third["error"]["errors"][0]["pointer"] == "/to/group"


def test_the_drop_in_door_refuses_and_shows_no_app_of_others(
    fleet: None, gateway: GatewayClient
) -> None:
    ask = asking(gateway.url)
    gateway.backend.keys.add("crm", apps=frozenset({"hrr"}))
    token = token_of(ask, "drk_crm000000000", "secret")
    _, answer = ask("POST", "/topapi/role/addrole", token=token, body={"roleName": "值班"})
    assert answer["errcode"] == 400_002
    assert "no worker serves hrr; there are -" in answer["errmsg"]
    key = gateway.backend.keys.add("ops")
    _, answer = ask("POST", "/robot/send", token=f"onkall@{key}", body=TEXT)
    assert answer["errcode"] == 400_002
    assert "no worker serves onkall" in answer["errmsg"]


def test_without_any_worker_a_job_is_taken_with_a_warning(
    gateway: GatewayClient, store: Redis
) -> None:
    ask = gateway.by(gateway.backend.keys.add("all", sender="*"))
    taken = ask("POST", "/v1/messages", {**MESSAGE, "app": "anything"})
    assert taken.status == 202
    assert "no worker has been seen" in taken.headers["Warning"]


async def test_clients_refuse_it_too(fleet: None, client: Client) -> None:
    with pytest.raises(ContractError) as error:
        client.send(message(app="hrr"))
    assert (error.value.field, error.value.problem) == ("app", NEAR)
    with pytest.raises(ContractError, match="hrr"):
        client.send_many([message(app="hr"), message(app="hrr")])
    with pytest.raises(ContractError, match="hrr"):
        client.campaign(name="x", message=TEXT, recipients=["u1"], app="hrr")
    with pytest.raises(ContractError) as error:
        client.send(RobotMessage.parse({"to": {"group": "onkall"}, "message": TEXT}))
    assert error.value.field == "to.group"
    async with AsyncClient(client.settings) as asynchronous:
        with pytest.raises(ContractError, match="hrr"):
            await asynchronous.send(message(app="hrr"))
    assert client.send(message(app="crm")).status().app == "crm"


async def test_an_app_of_a_new_worker_is_taken_at_once(
    fleet: None, client: Client, redis: AsyncRedis
) -> None:
    client.send(message(app="hr"))
    await served_names.publish(redis, ["app:finance"])
    await asyncio.sleep(UNKNOWN_SECONDS)
    client.send(message(app="finance"))


def test_the_names_cost_no_round_trip_a_message(
    everything: Ask, client: Client, store: Redis
) -> None:
    store.config_resetstat()
    for _ in range(20):
        assert everything("POST", "/v1/messages", {**MESSAGE, "app": "hr"}).status == 202
        client.send(message(app="hr"))
    assert store.info("commandstats")["cmdstat_hkeys"]["calls"] == 2


async def test_names_that_no_worker_serves_any_more_are_forgotten(redis: AsyncRedis) -> None:
    old = int(time.time() * 1000) - keys.SERVED_TTL_MS - 60_000
    await redis.hset(keys.SERVED, mapping={"app:old": old, "app:late": old + 120_000})
    await served_names.publish(redis, ["app:hr"])
    assert sorted(await redis.hkeys(keys.SERVED)) == [b"app:hr", b"app:late"]
    assert await redis.pttl(keys.SERVED) > 6 * 86_400_000


def test_commands_refuse_it_and_name_the_line(fleet: None, cli: Cli) -> None:
    assert NEAR in cli.refused("send", "--to", "u1", "--text", "x", "--app", "hrr")
    assert NEAR in cli.refused("sync", "--app", "hrr")
    plan = ("create", "n", "--text", "x", "--to", "u1", "--app", "hrr")
    assert NEAR in cli.refused("campaign", *plan)
    lines = "".join(json.dumps({**MESSAGE, "app": app}) + "\n" for app in ("hr", "hrr", "crm"))
    refused = cli.refused("send", "--jobs", "-", stdin=lines)
    assert "line 2: app: no worker serves hrr" in refused
    assert "1 job accepted; to go on, give --from 2" in refused
