"""kill -9 of workers, wherever they are: every endpoint hears of everything, under the same ids."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from aiohttp import web
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, settings_of, states
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync
from dingrelay_tasks.contract import QUEUES
from dingrelay_workers.database.database import Database
from dingrelay_workers.webhooks.documents import EndpointRequest, IssuedEndpoint
from dingrelay_workers.webhooks.service import WebhookService
from support.examples import either
from support.jobs import message
from support.webhooks import Receiver, receiver_thread, verified

MESSAGES = either(40, 100)
KILLS = either(2, 4)
PEOPLE = either(60, 200)


@pytest.fixture
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    """One that is sound, and one that is not."""
    with ExitStack() as stack:
        sound, sick = (stack.enter_context(receiver_thread()) for _ in range(2))
        dice, failed = random.Random(7), set[str]()

        async def flaps(request: web.Request) -> web.StreamResponse:
            """A third fails once; the pauses of those that fail again and again are true here."""
            await asyncio.sleep(dice.uniform(0, 0.05))
            notice = request.headers["webhook-id"]
            if notice in failed or dice.random() < 2 / 3:
                return web.Response(status=204)
            failed.add(notice)
            return web.Response(status=500)

        sick.behaves = flaps
        yield sound, sick


def add(fleet: Fleet, url: str) -> IssuedEndpoint:
    """An endpoint that takes everything."""

    async def added() -> IssuedEndpoint:
        settings = settings_of(fleet.env)
        database, redis = Database(settings.database), open_redis(settings)
        store = WebhookService(database, redis, settings, timeout=30)
        try:
            return await store.add(EndpointRequest(name="test", url=url, types=["*"]))
        finally:
            await redis.aclose()
            await database.dispose()

    return asyncio.run(added())


@pytest.mark.timeout(240)
def test_workers_die_and_every_endpoint_gets_everything(
    fleet: Fleet,
    client: Client,
    valkey: Redis,
    sandbox: SandboxAdmin,
    receivers: tuple[Receiver, Receiver],
) -> None:
    sandbox.seed(users=PEOPLE, departments=5)
    issued = [add(fleet, receiver.url) for receiver in receivers]
    fleet.spawn(2, queues=QUEUES)
    jobs = [
        message(
            f"u{number % PEOPLE + 1}",
            text=f"news {number}",
            lane=random.choice(["urgent", "normal", "bulk"]),
        )
        for number in range(MESSAGES)
    ]
    ids = list(dict.fromkeys(traffic.send_all(client, jobs)))
    walk = client.send(UserSync()).id
    for kill in range(KILLS):
        wait_until(
            lambda kill=kill: len(receivers[0].taken) > kill * 20 or ended(client, ids),
            timeout=60,
            what="notices go on",
        )
        wait_until(lambda: any(worker.ready for worker in fleet.alive), what="a worker is ready")
        random.choice([worker for worker in fleet.alive if worker.ready]).kill()
        fleet.spawn(queues=QUEUES, wait=False)
    wait_until(lambda: ended(client, [*ids, walk]), timeout=90, what="all jobs have ended")
    for receiver, endpoint in zip(receivers, issued, strict=True):
        wait_until(
            lambda receiver=receiver: all_arrived(receiver, {*ids, walk}),
            timeout=90,
            what="an endpoint has heard of everything",
            pause=0.2,
        )
        names = {
            (request.document["type"], str(request.document["data"])): request.id
            for request in receiver.requests
        }
        assert len(names) == len({request.id for request in receiver.requests})
        for request in receiver.taken:
            verified(request, endpoint.secret)
    traces = fleet.logs()
    assert not [each for each in issued if each.secret in traces]


def ended(client: Client, ids: list[str]) -> bool:
    open_states = {"queued", "running", "snoozed", "retrying"}
    return not open_states & set(states(client, ids))


def all_arrived(receiver: Receiver, jobs: set[str]) -> bool:
    reported = {data["id"] for data in receiver.data("job.")}
    people = {data["userid"] for data in receiver.data("directory.user.added")}
    return reported >= jobs and len(people) == PEOPLE
