"""A worker with jobs or tables of a newer release: it leaves the jobs alone, and refuses the tables."""

import json

import pytest
from redis import Redis
from sqlalchemy import create_engine, text

from acceptance import traffic
from acceptance.fleet import APP, Fleet, settings_of, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_producers.publisher import FORMAT_HEADER, WAKEUP_FORMAT, Publisher
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.transitions import RECORD_FORMAT
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.contract import DIRECTORY_QUEUE

QUEUE = "dingrelay.normal"


def left(valkey: Redis, job_id: str) -> int:
    return int(valkey.hget(keys.job(job_id), "left") or 0)


def test_they_wait_for_a_worker_that_knows_them(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    newer, of_newer_kind, woken_newly = traffic.send_all(client, map(traffic.message, range(3)))
    valkey.delete(QUEUE)
    valkey.hset(keys.job(newer), "v", RECORD_FORMAT + 1)
    valkey.hset(keys.job(of_newer_kind), "kind", "poll-create")
    publisher = Publisher(settings_of(fleet.env))
    for job_id, kind in ((newer, "message-send"), (of_newer_kind, "poll-create")):
        publisher.publish([Wakeup(job_id, kind, QUEUE, "default", "normal", "", 1)])
    publisher.publish([Wakeup(woken_newly, "message-send", QUEUE, "default", "normal", "", 1)])
    message = json.loads(valkey.lpop(QUEUE) or b"")
    message["headers"] |= {FORMAT_HEADER: WAKEUP_FORMAT + 1, "dingrelay-woken": None}
    valkey.lpush(QUEUE, json.dumps(message))
    publisher.close()

    (worker,) = fleet.spawn()
    for job_id in (newer, of_newer_kind):
        wait_until(lambda job_id=job_id: left(valkey, job_id) > 1, what="it was left twice")
    own = traffic.send_all(client, map(traffic.message, range(3, 6)))
    traffic.assert_done(wait_for_ends(client, [*own, woken_newly], timeout=30))
    assert client.status(newer).state == State.QUEUED
    assert worker.log.read_text().count("left_to_newer_release") == 1

    # As if a worker that knows them had come.
    valkey.hset(keys.job(newer), "v", RECORD_FORMAT)
    valkey.hset(keys.job(of_newer_kind), "kind", "message-send")
    traffic.assert_done(wait_for_ends(client, [newer, of_newer_kind], timeout=60))
    traffic.assert_each_arrived_once(sandbox, range(6))


@pytest.fixture
def newer(fleet: Fleet) -> Fleet:
    engine = create_engine(fleet.env["DINGRELAY_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(text("update schema_version set version_num = '9999'"))
        connection.execute(text("update schema_readers set oldest = '9000'"))
    engine.dispose()
    return fleet


def test_our_command_ends_with_one_line(newer: Fleet) -> None:
    done = newer.run("worker", "--lanes", "directory")
    assert done.returncode == 2
    assert "its tables are of a newer release" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_celerys_command_ends_as_well(newer: Fleet) -> None:
    (worker,) = newer.spawn(app=APP, queues=[DIRECTORY_QUEUE], wait=False)
    assert worker.process.wait(60) == 2
    log = worker.log.read_text()
    assert log.count("its tables are of a newer release") == 1
    assert "Traceback" not in log
