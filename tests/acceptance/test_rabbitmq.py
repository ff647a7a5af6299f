"""RabbitMQ as the broker: quorum queues, confirms, an alarm, a crash."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

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
from support.brokers import RabbitMq, rabbitmq
from support.examples import either

PUBLISHED = either(600, 3_000)
ALARM_COSTS = 30
"""Seconds that handing over jobs may take while nothing is taken: a few time-outs, on a busy machine."""

LASTS = either(3.0, 40.0)
"""Seconds that it is in trouble."""
THROUGH = either(90, 20)
"""Seconds after it within which all has ended; the suite's machine may be busy."""
BEFORE = either(60, 300)
"""Messages that were asked for before it."""
RATE = 5
"""Messages a second that are asked for in the background."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    more = "default_queue_type = quorum"
    with rabbitmq(tmp_path_factory.mktemp("broker") / "rabbitmq", more) as server:
        yield server


@pytest.fixture
def fleet(fleet: Fleet, broker: RabbitMq) -> Fleet:
    fleet.env["DINGRELAY_BROKER_URL"] = broker.url
    fleet.env["DINGRELAY_LEASE"] = "3"
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
        result = check_broker(client.settings)
        bound.delete()
    assert (result.verdict, "x-queue-type" in result.found) == ("failed", True)
    assert check_broker(client.settings).verdict == "ok"
    (worker,) = fleet.spawn()
    ids = traffic.send_all(client, map(traffic.message, range(20)))
    # Of a client that knows the task's name only; the server's default makes the queue the same.
    ids += send_bare(broker.url, range(20, 25))
    traffic.assert_done(wait_for_ends(client, ids, timeout=60))
    classic = Queue("dingrelay.normal", queue_arguments={"x-queue-type": "classic"})
    with Connection(broker.url) as connection:
        bound = classic(connection.default_channel)
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


def test_a_new_lane_is_consumed(client: Client, broker: RabbitMq, sandbox: SandboxAdmin) -> None:
    client.send(traffic.message(1))  # over the connection, which has made this lane's queue only
    urgent = traffic.message(2).model_copy(update={"lane": "urgent"})
    sending = threading.Thread(target=client.send, args=[urgent], daemon=True)
    broker.freeze(on=True)
    try:
        sending.start()
        sending.join(ALARM_COSTS)
        assert not sending.is_alive()
    finally:
        broker.freeze(on=False)


def killed(broker: RabbitMq) -> None:
    """It is killed, and starts again with what it had."""
    broker.kill()
    time.sleep(LASTS)
    broker.start()


def restarted(broker: RabbitMq) -> None:
    """It ends in order, and starts again."""
    broker.stop()
    broker.start()


def frozen(broker: RabbitMq) -> None:
    """A broker whose connections stay open and answer nothing."""
    broker.freeze(on=True)
    time.sleep(LASTS)
    broker.freeze(on=False)


def alarmed(broker: RabbitMq) -> None:
    """It takes nothing that is published."""
    broker.alarm(on=True)
    time.sleep(LASTS)
    broker.alarm(on=False)


def replaced(broker: RabbitMq) -> None:
    """Another one is in its place, which has none of its queues and messages."""
    broker.kill()
    broker.lose_all()
    time.sleep(LASTS)
    broker.start()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trouble", [killed, restarted, frozen, alarmed, replaced])
def test_jobs_outlive_a_broker_in_trouble(
    fleet: Fleet,
    client: Client,
    sandbox: SandboxAdmin,
    broker: RabbitMq,
    tmp_path: Path,
    trouble: Callable[[RabbitMq], None],
) -> None:
    sandbox.set_limits(calls=None)
    sandbox.set_latency(50, 100)
    fleet.env |= traffic.write_rules(tmp_path, message_send="200/1s")
    workers = fleet.spawn(2)
    ids = traffic.send_all(client, map(traffic.message, range(BEFORE)))
    with jobs_sent_meanwhile(client, BEFORE) as background:
        trouble(broker)
    ids += background
    ids += traffic.send_all(client, map(traffic.message, range(len(ids), len(ids) + 20)))
    traffic.assert_done(wait_for_ends(client, ids, timeout=THROUGH))
    traffic.assert_each_arrived_once(sandbox, range(len(ids)))
    assert all(worker.alive for worker in workers)


@contextmanager
def jobs_sent_meanwhile(client: Client, first: int) -> Generator[list[str]]:
    """The ids of messages that are sent one by one while the block runs, numbered from `first` on."""
    ids: list[str] = []
    stopping = threading.Event()

    def send() -> None:
        while not stopping.wait(1 / RATE):
            ids.append(client.send(traffic.message(first + len(ids))).id)

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(send)
        try:
            yield ids
        finally:
            stopping.set()
        sending.result(ALARM_COSTS)
