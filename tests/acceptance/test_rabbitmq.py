"""RabbitMQ as the broker: quorum queues, confirms, an alarm, a crash."""

import time
from collections.abc import Iterator

import pytest
from amqp.exceptions import PreconditionFailed
from kombu.connection import Connection
from kombu.entity import Queue
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, settings_of, wait_for_ends
from acceptance.test_redis_trouble import send_bare
from dingrelay_producers import Client, Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.doctor.broker import check_broker
from rabbitmq import RabbitMq, rabbitmq
from thorough import THOROUGH, either

PUBLISHED = either(600, 3_000)
ALARM_COSTS = 30
"""Seconds that handing over jobs may take while nothing is taken: a few time-outs, on a busy machine."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    more = "default_queue_type = quorum"
    with rabbitmq(tmp_path_factory.mktemp("broker") / "rabbitmq", more) as server:
        yield server


@pytest.fixture
def fleet(fleet: Fleet, broker: RabbitMq) -> Fleet:
    fleet.env["DINGRELAY_BROKER_URL"] = broker.url
    fleet.env["DINGRELAY_WAKE_GRACE"] = "3"
    return fleet


@pytest.fixture
def client(sandbox_env: dict[str, str], broker: RabbitMq) -> Iterator[Client]:
    given = settings_of(sandbox_env).model_dump(include={"env", "apps", "redis_url"})
    with Client(Settings.load(**given, broker_url=broker.url)) as client:
        yield client


@pytest.mark.timeout(240)
def test_jobs_go_through_quorum_queues_and_an_alarm(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, broker: RabbitMq, valkey: Redis
) -> None:
    older = Queue("dingrelay.webhooks", queue_arguments={"x-queue-type": "classic"})
    with Connection(broker.url) as connection:
        bound = older(connection.default_channel)
        bound.declare()
        told = check_broker(client.settings)
        bound.delete()
    assert (told.verdict, "x-queue-type" in told.found) == ("failed", True)
    assert check_broker(client.settings).verdict == "ok"
    (worker,) = fleet.spawn()
    ids = traffic.send_all(client, map(traffic.message, range(20)))
    # Of somebody who knows the task's name only; the server's default makes the queue the same.
    ids += send_bare(broker.url, range(20, 25))
    traffic.assert_done(wait_for_ends(client, ids, timeout=60))
    classic = Queue("dingrelay.normal", queue_arguments={"x-queue-type": "classic"})
    with Connection(broker.url) as connection:
        bound = classic(connection.channel())
        with pytest.raises(PreconditionFailed):
            bound.declare()
    broker.alarm(on=True)
    began = time.monotonic()
    many = traffic.send_all(client, map(traffic.message, range(100, 100 + PUBLISHED)))
    took = time.monotonic() - began
    broker.alarm(on=False)
    assert len(set(many)) == PUBLISHED
    assert took < ALARM_COSTS
    for job in many[30:]:
        client.cancel(job)
    ended = wait_for_ends(client, many, timeout=120)
    assert {str(status.state) for status in ended} <= {"done", "cancelled"}
    assert worker.stop() == 0


if THOROUGH:

    @pytest.mark.timeout(300)
    def test_jobs_outlive_a_crash_of_the_broker(
        fleet: Fleet, client: Client, sandbox: SandboxAdmin, broker: RabbitMq
    ) -> None:
        sandbox.set_latency(50, 100)
        workers = fleet.spawn(2)
        ids = traffic.send_all(client, map(traffic.message, range(100)))
        broker.kill()
        ids += traffic.send_all(client, map(traffic.message, range(100, 150)))
        broker.start()
        ids += traffic.send_all(client, map(traffic.message, range(150, 200)))
        traffic.assert_done(wait_for_ends(client, ids, timeout=120))
        traffic.assert_each_arrived_once(sandbox, range(200))
        assert all(worker.alive for worker in workers)
