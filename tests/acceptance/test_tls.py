"""TLS to a RabbitMQ, and to a Redis behind Sentinel, that refuse clients without a certificate."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance import traffic
from acceptance.fleet import Fleet, settings_of, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, ServiceUnavailable, Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.doctor.broker import check_broker
from dingrelay_workers.doctor.redis_server import check_redis
from support.brokers import RabbitMq, Replicated, rabbitmq
from support.databases import prepare
from support.servers import Authority, free_port

MISSING = "asks? for a certificate of ours"
REFUSED = {
    "an unknown authority": "its certificate is refused: self-signed certificate",
    "a certificate for another name": "its certificate is refused: Hostname mismatch",
    "no certificate of ours": MISSING,
    "a certificate of another authority": f"unknown ca|for another one|{MISSING}",
}
"""Cause → the error in one line. OpenSSL does not always learn why a server ends a connection."""


class Trust:
    """Trusted authorities, and the certificate to present."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self.other = Authority(folder / "other")
        self.ours = self.authority.issue("client")

    def files(self, wrong: str = "") -> dict[str, str]:
        """The settings, with one thing wrong if one is named."""
        ours = self.other.issue("client") if "another authority" in wrong else self.ours
        given = {
            "tls_ca": "" if "unknown" in wrong else str(self.authority.cert),
            "tls_cert": str(ours.cert),
            "tls_key": str(ours.key),
        }
        return given | (
            {"tls_cert": "", "tls_key": ""} if wrong == "no certificate of ours" else {}
        )

    def variables(self, wrong: str = "") -> dict[str, str]:
        return {f"DINGRELAY_{name.upper()}": path for name, path in self.files(wrong).items()}


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, trust: Trust) -> Iterator[RabbitMq]:
    folder = tmp_path_factory.mktemp("broker") / "rabbitmq"
    with rabbitmq(folder, authority=trust.authority) as server:
        yield server


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory, trust: Trust) -> Iterator[Replicated]:
    replicated = Replicated(tmp_path_factory.mktemp("redis") / "s", authority=trust.authority)
    try:
        replicated.start()
        yield replicated
    finally:
        replicated.stop()


def over_tls(env: dict[str, str], trust: Trust, wrong: str = "", **others: str) -> Settings:
    """The settings of a program before these servers."""
    given = settings_of(env).model_dump(include={"env", "apps", "redis_url"})
    return Settings.load(**{**given, **trust.files(wrong), **others})


@pytest.mark.timeout(240)
def test_jobs_go_through_a_rabbitmq_with_tls(
    fleet: Fleet, sandbox_env: dict[str, str], broker: RabbitMq, trust: Trust
) -> None:
    # Of several brokers each is compared with its own name: the first is away, and is called otherwise.
    url = f"amqps://guest:guest@localhost:{free_port()}//;{broker.url}"
    settings = over_tls(sandbox_env, trust, broker_url=url)
    assert check_broker(settings).verdict == "ok"
    fleet.spawn(DINGRELAY_BROKER_URL=url, **trust.variables())
    with Client(settings) as client:
        ids = traffic.send_all(client, map(traffic.message, range(10)))
        traffic.assert_done(wait_for_ends(client, ids, timeout=60))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("wrong", REFUSED)
def test_a_rabbitmq_that_is_not_verified_or_refuses_us_is_named(
    sandbox_env: dict[str, str],
    broker: RabbitMq,
    trust: Trust,
    wrong: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = broker.url_at("localhost") if "another name" in wrong else broker.url
    settings = over_tls(sandbox_env, trust, wrong, broker_url=url)
    # The connection of another client of this process, with the right files, must not be used.
    with Client(over_tls(sandbox_env, trust, broker_url=broker.url)) as client:
        client.send(traffic.message(0))
    result = check_broker(settings)
    assert result.verdict == "failed"
    with Client(settings) as client:
        # The job is accepted all the same, by Redis, and the scheduler will wake it.
        client.send(traffic.message(1))
    (line,) = [each.message for each in caplog.records if each.name == "dingrelay"]
    for text in (result.found, line):
        assert matches(REFUSED[wrong], text), text


def test_brokers_with_and_without_tls_are_not_mixed(trust: Trust) -> None:
    mixed = "amqps://guest@one//;amqp://guest@two//"
    with pytest.raises(ValueError, match="DINGRELAY_BROKER_URL: of several brokers all speak TLS"):
        Settings.load(env="test", broker_url=mixed)


@pytest.mark.timeout(240)
def test_jobs_go_through_sentinels_with_tls(
    sandbox_env: dict[str, str],
    sandbox: SandboxAdmin,
    replicated: Replicated,
    trust: Trust,
    tmp_path: Path,
) -> None:
    prepare(sandbox_env["DINGRELAY_DATABASE_URL"])
    settings = over_tls(sandbox_env, trust, redis_url=replicated.url)
    assert {each.verdict for each in check_redis(settings)} <= {"ok", "warning"}
    assert check_broker(settings).verdict == "ok"
    env = {**sandbox_env, **trust.variables(), "DINGRELAY_REDIS_URL": replicated.url}
    fleet = Fleet(env, tmp_path)
    try:
        fleet.spawn()
        with Client(settings) as client:
            ids = traffic.send_all(client, map(traffic.message, range(10)))
            traffic.assert_done(wait_for_ends(client, ids, timeout=60))
    finally:
        fleet.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("wrong", REFUSED)
def test_sentinels_that_are_not_verified_or_refuse_us_are_named(
    sandbox_env: dict[str, str], replicated: Replicated, trust: Trust, wrong: str
) -> None:
    host = "localhost" if "another name" in wrong else "127.0.0.1"
    url = replicated.url_of(replicated.sentinels, host)
    settings = over_tls(sandbox_env, trust, wrong, redis_url=url)
    (redis,) = check_redis(settings)
    broker = check_broker(settings)
    with Client(settings) as client, pytest.raises(ServiceUnavailable) as refused:
        client.send(traffic.message(2))
    assert (redis.verdict, broker.verdict) == ("failed", "failed")
    for text in (redis.found, broker.found, str(refused.value)):
        assert matches(REFUSED[wrong], text), text
        assert len(text) < 300
        assert "\n" not in text


@pytest.mark.timeout(240)
@pytest.mark.parametrize("where", ["rabbitmq", "sentinels"])
def test_a_worker_without_a_certificate_says_why_it_waits(
    request: pytest.FixtureRequest,
    sandbox_env: dict[str, str],
    trust: Trust,
    where: str,
    tmp_path: Path,
) -> None:
    env = {**sandbox_env, **trust.variables("no certificate of ours")}
    if where == "rabbitmq":
        env["DINGRELAY_BROKER_URL"] = request.getfixturevalue("broker").url
    else:
        env["DINGRELAY_REDIS_URL"] = request.getfixturevalue("replicated").url
    fleet = Fleet(env, tmp_path)
    try:
        (worker,) = fleet.spawn(wait=False)
        wait_until(lambda: "Cannot connect to" in worker.log.read_text(), what="it has tried")
        lines = [each for each in worker.log.read_text().splitlines() if "Cannot connect" in each]
        assert matches(f"{MISSING}|certificate required", lines[0]), lines[0]
        assert len(lines[0]) < 600
        assert "Traceback" not in worker.log.read_text()
    finally:
        fleet.stop()


def matches(pattern: str, text: str) -> bool:
    """Whether a text has what is looked for in it."""
    return re.search(pattern, text) is not None
