"""kill -9 of workers under a campaign, the pump's among them: everybody gets it once."""

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import campaigns
from acceptance.fleet import Fleet, Worker
from cli_runner import Cli
from conftest import wait_until
from dingrelay_producers import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.campaigns.models import State
from dingrelay_workers.directory.database import Database

PEOPLE, SIZE = 3_000, 10


@pytest.fixture
def organisation(sandbox: SandboxAdmin) -> SandboxAdmin:
    """A sandbox with people enough, which keeps calls but not people back."""
    sandbox.seed(users=PEOPLE, departments=10)
    sandbox.set_limits(calls="100000/1s", recipients="")
    return sandbox


async def make(env: dict[str, str]) -> str:
    database = Database(env["DINGRELAY_DATABASE_URL"])
    try:
        return await campaigns.put(database, people=PEOPLE, size=SIZE, state=State.DRAFT)
    finally:
        await database.dispose()


def progress(env: dict[str, str], campaign: str) -> dict[str, Any]:
    path = env["DINGRELAY_DATABASE_URL"].removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("select * from campaigns where id = ?", [campaign])
        return dict(rows.fetchone())


def pumps(fleet: Fleet) -> Worker:
    """The worker that took the pump last."""
    taken = [
        (line.rpartition('"timestamp": "')[2], worker)
        for worker in fleet.workers
        for line in worker.log.read_text().splitlines()
        if '"pump_taken"' in line
    ]
    return max(taken, key=lambda pair: pair[0])[1]


@pytest.mark.timeout(60)
def test_workers_and_the_pump_die_and_everybody_gets_it_once(
    fleet: Fleet, organisation: SandboxAdmin, valkey: Redis, tmp_path: Path
) -> None:
    rules = tmp_path / "dingrelay.toml"
    rules.write_text('[rules."message.send"]\ncalls = "50/1s"\nrecipients = "1000000/60s"\n')
    fleet.env |= {
        "DINGRELAY_CONFIG": str(rules),
        "DINGRELAY_LEASE": "2",
        "DINGRELAY_WAKE_GRACE": "3",
    }
    fleet.spawn(2)
    organisation.set_latency(5, 30)
    organisation.add_fault("lost_answer", share=0.02)
    campaign = asyncio.run(make(fleet.env))
    cli = Cli(fleet.env)
    assert cli.json("campaign", "start", campaign) == {"id": campaign, "state": "running"}

    def settled(chunks: int) -> None:
        wait_until(
            lambda: progress(fleet.env, campaign)["settled"] >= chunks,
            timeout=30,
            what=f"{chunks} chunks are settled",
        )

    settled(60)
    first = pumps(fleet)
    first.kill()
    fleet.spawn(wait=False)
    settled(140)
    second = pumps(fleet)
    assert second is not first
    second.kill()
    settled(PEOPLE // SIZE)

    row = progress(fleet.env, campaign)
    assert (row["state"], row["accepted"], row["failed"]) == (State.DONE, PEOPLE, 0)
    contents = organisation.inboxes(limit=10)["contents"]
    assert [(each["delivered"], each["repeated"]) for each in contents] == [(PEOPLE, 0)]
    audit = organisation.audit()
    assert (audit["reached"], audit["delivered"]) == (PEOPLE, PEOPLE)
    assert Counter(audit["faults"])["lost_answer"] > 0
    wait_until(
        lambda: not list(valkey.scan_iter(keys.job("*"))), timeout=5, what="no record is left"
    )
