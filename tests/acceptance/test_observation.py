"""A real Prometheus looks at a fleet under load, and is asked everything that alerts and dashboards ask."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from redis import Redis

from acceptance import traffic
from acceptance.fleet import PYTHON, Fleet, wait_for_ends
from acceptance.gateway_process import GatewayProcess, made_key
from acceptance.prometheus import Prometheus, alerts, panels, prometheus, selectors, watched
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend, UserSync
from dingrelay_tasks.contract import QUEUES
from support import callbacks, processes
from support.servers import free_port
from support.webhooks import answering, receiver_thread

RUN = 300.0
"""Seconds that are asked about: more than the test takes."""
SETTINGS = """
[apps.hr]
agent_id = "1000002"
[quota]
edition = "professional"
[sync]
every = "24h"
[history]
days = 30
[rules."message.send"]
calls = "30/1s"
"""
HR = {
    "DINGTALK_APP_KEY_HR": "hr-key",
    "DINGTALK_APP_SECRET_HR": "hr-secret",
    "DINGTALK_CALLBACK_TOKEN_HR": callbacks.TOKEN,
    "DINGTALK_CALLBACK_AES_KEY_HR": callbacks.AES_KEY,
}
FIRED = ("JobsDie", "AppHeld", "CallbacksRefused", "WebhookDisabled")
"""Alerts whose causes the load has, and that wait for nothing."""


@dataclass
class System:
    """The system under observation."""

    fleet: Fleet
    client: Client
    sandbox: SandboxAdmin
    gateway: GatewayProcess
    key: str
    prometheus: Prometheus

    def post(self, path: str, body: object, key: str = "") -> int:
        """The status of an answer of the gateway's."""
        return self.gateway.ask("POST", path, body, key=key or self.key).status

    def until(self, expression: str, what: str) -> None:
        """Return once Prometheus has series of an expression."""
        wait_until(lambda: self.prometheus.now(expression), timeout=60, what=what, pause=0.3)


@pytest.fixture
def system(fleet: Fleet, client: Client, sandbox: SandboxAdmin, tmp_path: Path) -> Iterator[System]:
    """Two workers on this machine, a gateway and who listens to streams, each seen by Prometheus."""
    (tmp_path / "dingrelay.toml").write_text(SETTINGS, "utf-8")
    del fleet.env["DINGRELAY_HISTORY"]
    fleet.env |= HR | {
        "DINGRELAY_CONFIG": str(tmp_path / "dingrelay.toml"),
        "DINGRELAY_TOKEN_CIRCUIT": "2",
        "DINGRELAY_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    sandbox.add_app(app_key="hr-key", app_secret="hr-secret", agent_id="1000002")
    sandbox.set_delivery(scale=0.02)
    key = made_key(fleet, "observer")
    # What waits is counted when the first worker starts, and then every quarter of a minute.
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for lane in ("urgent", "normal", "bulk"):
        later = traffic.message(900, send_at=tomorrow).model_copy(update={"lane": lane})
        client.send(later)
    ports = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        gateway = GatewayProcess(fleet, tmp_path)
        stack.callback(gateway.close)
        with (tmp_path / "events.log").open("wb") as log:
            events = processes.Popen[bytes](
                [*PYTHON, "dingrelay_producers.cli", "events"],
                env=fleet.environment(DINGRELAY_METRICS_PORT=str(ports[2])),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        stack.callback(events.wait, 20)
        stack.callback(events.terminate)
        found = stack.enter_context(prometheus(tmp_path, [gateway.metrics_port, *ports]))
        for port in ports[:2]:
            fleet.spawn(queues=QUEUES, DINGRELAY_METRICS_PORT=str(port), wait=False)
        wait_until(
            lambda: set(found.health().values()) == {"up"},
            timeout=90,
            what="Prometheus sees all processes",
            pause=0.3,
        )
        yield System(fleet, client, sandbox, gateway, key, found)


def play(system: System) -> None:
    """The load of the demo, and what goes wrong."""
    client, sandbox = system.client, system.sandbox
    with receiver_thread() as sound, receiver_thread() as flaky, receiver_thread() as gone:
        failing = [True]

        async def fails_at_first(_: web.Request) -> web.StreamResponse:
            return web.Response(status=500 if failing[0] else 204)

        flaky.behaves, gone.behaves = fails_at_first, answering(410)
        for name, receiver in (("sound", sound), ("flaky", flaky), ("gone", gone)):
            endpoint = {"name": name, "url": receiver.url, "types": ["*"]}
            # A gateway that has just started answers 503 while a busy machine opens the database.
            wait_until(lambda made=endpoint: system.post("/v1/webhooks", made) == 201, what=name)
        users = [f"u{number + 1}" for number in range(traffic.PEOPLE)]
        text = {"msgtype": "text", "text": {"content": "全员通知"}}
        campaign = client.campaign(name="all", message=text, recipients=users, rate=900).create()
        campaign.start()
        jobs = [
            *(traffic.message(number) for number in range(60)),
            *(traffic.approval(number) for number in range(2)),
            MessageSend.parse(
                {"to": {"users": ["u1", "stranger"]}, "message": text, "sender": "crm"}
            ),
            UserSync(),
        ]
        ids = traffic.send_all(client, jobs)
        stranger = _send_unchecked(client, traffic.message(800), app="stranger")
        _ask_the_gateway(system)
        sandbox.fire("user_modify_org", userId=["u1"])
        throttle = sandbox.add_fault("throttle", code="43004", api=traffic.SEND)
        system.until("max(dingrelay_limit_paused_seconds) > 0", "a pause")
        sandbox.delete_fault(throttle)

        _let_dingtalk_be_out(system, ids)
        failing[0] = False
        wait_for_ends(client, [*ids, stranger], timeout=90)
        wait_until(
            lambda: campaign.status().state == "done", timeout=60, what="the campaign is done"
        )
        wait_until(lambda: flaky.taken, timeout=60, what="who failed has recovered")
        assert client.status(stranger).state == State.DEAD
        _find_a_ceiling(system)


def _send_unchecked(client: Client, job: MessageSend, *, app: str) -> str:
    """Enqueue a job of an app that no worker serves, as a client does that never saw a worker; its id."""
    draft = record.draft(job.model_copy(update={"app": app}))
    client._connection.accept([draft])
    return draft.id


def _find_a_ceiling(system: System) -> None:
    """Let hundreds of calls run into a limit, as happens now and then."""
    bucket = f"{keys.PREFIX}bucket:app:default:message.send:calls"
    with Redis.from_url(system.client.settings.redis) as redis:
        assert redis.exists(bucket)
        redis.hset(bucket, mapping={"ceiling": 25, "retry": 2**52})
    system.until("dingrelay_limit_ceiling", "a ceiling")


def _ask_the_gateway(system: System) -> None:
    """Jobs, refusals, and what comes to the callback of an app."""
    message = traffic.message(700).wire()
    assert system.post("/v1/messages", message) == 202
    assert system.post("/v1/messages", {**message, "to": {}}) == 422
    assert system.post("/v1/messages", message, key="drk_unknown") == 401
    # While Redis stands still nothing can be accepted.
    with Redis.from_url(system.client.settings.redis) as redis:
        redis.client_pause(4_000)
    assert system.post("/v1/messages", {**message, "sender": "late"}) == 503
    wait_until(lambda: system.post("/v1/messages", message) == 202, what="Redis is back")
    dingtalk = callbacks.DingTalk(owner="hr-key")
    stranger = callbacks.DingTalk(owner="hr-key", token="another")
    content = dingtalk.content("user_modify_org", UserId=["u2"])
    for pushed, status in [(dingtalk.push(content), 200), *((stranger.push(), 403),) * 6]:
        assert system.post(f"/callbacks/dingtalk/hr?{pushed.query}", pushed.body) == status


def _let_dingtalk_be_out(system: System, ids: list[str]) -> None:
    """First one of its APIs, and then the app is refused; jobs come all the while."""
    sandbox = system.sandbox
    outage = sandbox.outage("503", api=traffic.SEND)
    ids += traffic.send_all(system.client, map(traffic.message, range(100, 120)))
    system.until('dingrelay_breaker_open_seconds{scope!~"hold:.*"}', "an outage")
    sandbox.delete_fault(outage)
    refusal = sandbox.refuse_credentials(app="sandbox-key")
    sandbox.expire_tokens("sandbox-key")
    ids += traffic.send_all(system.client, map(traffic.message, range(120, 130)))
    system.until('dingrelay_breaker_open_seconds{scope="hold:default"}', "an app is held")
    sandbox.delete_fault(refusal)


@pytest.mark.timeout(400)
def test_prometheus_has_an_answer_to_all_that_is_asked(system: System) -> None:
    play(system)
    found = system.prometheus
    # Of two workers on one machine, each is seen by itself.
    assert len(found.now("dingrelay_worker_lane{lane='urgent'}")) == 2
    system.until("max(dingrelay_fleet_workers) == 2", "both are counted")
    killed, _ = system.fleet.alive
    killed.kill()
    system.until('ALERTS{alertname="WorkerGone"}', "who was killed is missed")

    rules = found.ask("rules")["groups"][0]["rules"]
    assert {rule["name"] for rule in rules} >= set(alerts())
    wrong = {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"}
    assert not wrong
    queries = {("alert", name, ""): watched(expression) for name, expression in alerts().items()}
    for (_, name, _), expression in list(queries.items()):
        for number, selector in enumerate(selectors(expression)):
            queries["alert", name, f"series {number}"] = selector
    silent = [
        (*place, expression)
        for place, expression in {**queries, **panels()}.items()
        if not found.had(expression, seconds=RUN)
    ]
    assert not silent, "\n".join(map(str, silent))
    for name in FIRED:
        assert found.had(f'ALERTS{{alertname="{name}", alertstate="firing"}}', seconds=RUN), name
