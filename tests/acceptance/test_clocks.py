"""Machines whose clocks are wrong: what processes compare they take from Redis' clock."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redis import Redis

from acceptance.fleet import Fleet, settings_of
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.contract import QUEUES
from dingrelay_workers.database.database import Database
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.webhooks.documents import EndpointRequest
from dingrelay_workers.webhooks.service import WebhookService
from support.databases import in_database, prepare
from support.gateways import ask, gateway_process
from support.jobs import message
from support.webhooks import receiver_thread, verified

CLOCK = Path(__file__).parents[2] / "ops/chaos/clock"


AN_HOUR_AHEAD = {
    "PYTHONPATH": os.pathsep.join([str(CLOCK), *sys.path]),
    "CHAOS_CLOCK_OFFSET": "3600",
    "PYTHONHASHSEED": "0",
}
"""Variables of a fresh interpreter whose clock is off."""


def test_notices_are_signed_with_a_time_that_receivers_accept(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin
) -> None:
    sandbox.seed(users=5, departments=1)

    async def added(url: str) -> str:
        settings = settings_of(fleet.env)
        database, redis = Database(settings.database), open_redis(settings)
        try:
            store = WebhookService(database, redis, settings, timeout=30)
            return (await store.add(EndpointRequest(name="x", url=url, types=["job.*"]))).secret
        finally:
            await redis.aclose()
            await database.dispose()

    with receiver_thread() as receiver:
        secret = asyncio.run(added(receiver.url))
        fleet.spawn(queues=QUEUES, **AN_HOUR_AHEAD)
        ids = {client.send(message(f"u{number}", text=f"news {number}")).id for number in range(5)}
        wait_until(lambda: len(receiver.ids) == len(ids), timeout=60, what="notices arrive")
    for request in receiver.requests:
        verified(request, secret)
        age = datetime.now(UTC) - datetime.fromisoformat(request.document["timestamp"])
        assert abs(age) < timedelta(minutes=2)


def test_a_command_writes_the_moments_of_redis(fleet: Fleet, valkey: Redis) -> None:
    prepare(settings_of(fleet.env).database)
    command = ("--json", "key", "create", "x", "--scope", "jobs:read", "--expires", "10m")
    made = fleet.run(*command, **AN_HOUR_AHEAD)
    assert made.returncode == 0, made.stderr
    (key,) = json.loads(fleet.run("--json", "key", "list").stdout)
    seconds, microseconds = valkey.time()
    now = seconds + microseconds / 1e6
    assert now < datetime.fromisoformat(key["expires_at"]).timestamp() <= now + 600


def test_keys_end_at_the_same_moment_at_each_gateway(fleet: Fleet) -> None:
    settings = settings_of(fleet.env)
    prepare(settings.database)
    now = datetime.now(UTC)
    grant = Grant(name="x", scopes=frozenset({"jobs:read"}))

    async def made(database: Database) -> list[str]:
        keys = KeyService(database, timeout=30)
        ends = (now + timedelta(minutes=10), now - timedelta(minutes=10))
        grants = [grant.model_copy(update={"expires_at": end}) for end in ends]
        return [(await keys.issue(each)).key for each in grants]

    good, ended = in_database(settings.database, made)
    with gateway_process(fleet.env | AN_HOUR_AHEAD) as (_, port):

        def status(key: str) -> int:
            return ask(port, "GET", "/v1/jobs", key=key).status

        # Its first reading comes beside its first requests.
        wait_until(lambda: (status(good), status(ended)) == (200, 401), what="Redis' time")
