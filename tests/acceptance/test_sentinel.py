"""Redis behind Sentinel: its primary is killed under messages and approvals."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from celery import Celery
from flower.utils.broker import Broker

from acceptance import traffic
from acceptance.fleet import Fleet, settings_of
from conftest import wait_until
from dingrelay_producers import (
    AsyncClient,
    Client,
    JobNotFound,
    JobStatus,
    ServiceUnavailable,
    Settings,
    State,
)
from dingrelay_producers.celery_config import celery_config
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate
from dingrelay_tasks.contract import Contract
from dingrelay_workers.doctor.broker import check_broker, check_workers
from dingrelay_workers.doctor.redis_server import check_redis
from dingrelay_workers.flower import server as queues
from support.brokers import Replicated
from support.examples import either

MESSAGES, APPROVALS = either(12, 40), either(3, 5)
"""A second, of each."""
BEFORE, AFTER = either(2, 10), either(1, 10)
"""Seconds of traffic before the primary dies, and after jobs go through again."""
BACK = either(30, 15)
"""Seconds until jobs go through; the suite's machine may be busy."""
LAST = 100_000
"""Number of a message that the traffic never reaches: an equal one would be a duplicate."""
LOST_FOR = 1.0
"""Seconds before its death whose writes a primary may take along: it does not wait for its replica."""


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Replicated]:
    replicated = Replicated(tmp_path / "redis")
    try:
        replicated.start()
        yield replicated
    finally:
        replicated.stop()


@pytest.fixture
def valkey_url(replicated: Replicated) -> str:
    return replicated.url


@dataclass
class Traffic:
    """Jobs of both kinds, asked for at a steady rate, whatever becomes of it."""

    client: Client
    accepted: dict[str, tuple[Contract, float]] = field(default_factory=dict)
    refused: int = 0

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def since(self, moment: float) -> list[str]:
        """The jobs that were accepted after it."""
        return [job for job, (_, at) in list(self.accepted.items()) if at > moment]

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(1 / (MESSAGES + APPROVALS)):
            number += 1
            creates = number % (MESSAGES + APPROVALS) < APPROVALS
            job = traffic.approval(number) if creates else traffic.message(number)
            try:
                self.accepted[self.client.send(job).id] = job, time.monotonic()
            except ServiceUnavailable:
                self.refused += 1


def status_of(client: Client, job_id: str) -> JobStatus | None:
    try:
        return client.status(job_id)
    except JobNotFound:
        return None


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "silent"])
def test_a_primary_is_lost_under_messages_and_approvals(
    how: signal.Signals,
    fleet: Fleet,
    client: Client,
    replicated: Replicated,
    sandbox: SandboxAdmin,
    sandbox_env: dict[str, str],
) -> None:
    sandbox.set_latency(20, 80)
    workers = fleet.spawn(2)
    with Traffic(client) as sent:
        wait_until(
            lambda: len(sent.accepted) >= BEFORE * (MESSAGES + APPROVALS), what="traffic is on"
        )
        killed = replicated.lose_primary(how)
        wait_until(
            lambda: any(
                (found := status_of(client, job)) is not None and found.state is State.DONE
                for job in sent.since(killed)
            ),
            timeout=BACK,
            what="a job that was asked for afterwards is done",
        )
        goal = len(sent.accepted) + AFTER * (MESSAGES + APPROVALS)
        wait_until(lambda: len(sent.accepted) >= goal, timeout=90, what="traffic is on again")
    found = {job: status_of(client, job) for job in sent.accepted}
    lost = [job for job, status in found.items() if status is None]
    for job in lost:
        # Only its producer knows it: accepted by a primary that died before it replicated that.
        assert killed - LOST_FOR < sent.accepted[job][1] <= killed + 0.5
    kept = [job for job in found if job not in set(lost)]
    wait_until(
        lambda: all(client.status(job).state.ended for job in kept),
        timeout=90,
        pause=0.2,
        what="every accepted job has ended",
    )
    traffic.assert_done([client.status(job) for job in kept])
    # An approval that is lost as a job may exist; twice there is none.
    forms = Counter(instance["form"][0][1] for instance in sandbox.approvals())
    assert not [form for form, count in forms.items() if count > 1]
    for job in kept:
        contract, _ = sent.accepted[job]
        if isinstance(contract, ApprovalCreate):
            assert contract.form_values[0][1] in forms
    contents = sandbox.inboxes()["contents"]
    assert max(content["delivered"] for content in contents) == 1
    assert all(worker.alive for worker in workers)
    settings = settings_of(sandbox_env)
    assert {each.verdict for each in check_redis(settings)} == {"ok"}
    assert check_broker(settings).verdict == "ok"
    assert check_workers(settings).found.startswith("2 running")
    assert flowers_queues(settings)["dingrelay.normal"] == 0
    assert asyncio.run(sent_by_async_client(settings)).state is State.DONE


def test_flower_asks_the_other_sentinels_where_the_first_is_away(
    sandbox_env: dict[str, str], replicated: Replicated, client: Client
) -> None:
    settings = settings_of(sandbox_env)
    client.send(traffic.message(1))
    replicated.stop_sentinel(replicated.sentinels[0])
    assert flowers_queues(settings)["dingrelay.normal"] == 1


def flowers_queues(settings: Settings) -> dict[str, int]:
    """Queues in Flower's page of the broker."""
    queues.install_redis(settings.broker_address)
    config = celery_config(settings)
    celery = Celery(set_as_current=False)
    celery.config_from_object(config)
    with celery, celery.connection() as connection:
        broker = Broker(
            connection.as_uri(include_password=True),
            broker_options=config["broker_transport_options"],
            broker_use_ssl=config["broker_use_ssl"],
        )

    found: Any = asyncio.run(broker.queues(["dingrelay.normal"]))
    return {each["name"]: each["messages"] for each in found}


async def sent_by_async_client(settings: Settings) -> JobStatus:
    async with AsyncClient(settings) as client:
        job = await client.send(traffic.message(LAST))
        return await job.wait(60)
