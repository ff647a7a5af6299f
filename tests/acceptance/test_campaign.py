"""Workers die or stand still under a campaign, the dispatcher's among them: everybody gets it
once.
"""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

import campaigns
from acceptance.fleet import Fleet, Worker
from cli_runner import Cli
from conftest import wait_until
from databases import rows
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.campaigns.models import State
from thorough import either

PEOPLE, SIZE = either(2_200, 3_000), 10


@pytest.fixture
def organisation(sandbox: SandboxAdmin) -> SandboxAdmin:
    """A sandbox with people enough, which keeps calls but not people back."""
    sandbox.seed(users=PEOPLE, departments=10)
    sandbox.set_limits(calls="100000/1s", recipients="")
    return sandbox


def make(env: dict[str, str], people: int = PEOPLE) -> str:
    url = env["DINGRELAY_DATABASE_URL"]
    return campaigns.put_now(url, people=people, size=SIZE, state=State.DRAFT)


def progress(env: dict[str, str], campaign: str) -> dict[str, Any]:
    query = "select * from campaigns where id = :id"
    (row,) = rows(env["DINGRELAY_DATABASE_URL"], query, id=campaign)
    return row


def dispatchers(fleet: Fleet) -> Worker:
    """The worker that took the dispatcher last."""
    taken = [
        (line.rpartition('"timestamp": "')[2], worker)
        for worker in fleet.workers
        for line in worker.log.read_text().splitlines()
        if '"leader_elected"' in line and '"role": "campaigns"' in line
    ]
    return max(taken, key=lambda pair: pair[0])[1]


def settled(env: dict[str, str], campaign: str, chunks: int) -> None:
    """Return once so many chunks are."""
    wait_until(
        lambda: progress(env, campaign)["settled"] >= chunks,
        timeout=30,
        what=f"{chunks} chunks are settled",
    )


def assert_everybody_got_it_once(
    env: dict[str, str],
    campaign: str,
    organisation: SandboxAdmin,
    valkey: Redis,
    people: int = PEOPLE,
) -> None:
    row = progress(env, campaign)
    assert (row["state"], row["accepted"], row["failed"]) == (State.DONE, people, 0)
    contents = organisation.inboxes(limit=10)["contents"]
    assert [(each["delivered"], each["repeated"]) for each in contents] == [(people, 0)]
    audit = organisation.audit()
    assert (audit["reached"], audit["delivered"]) == (people, people)
    wait_until(
        lambda: not list(valkey.scan_iter(keys.job("*"))), timeout=5, what="no record is left"
    )


@pytest.fixture
def two_workers(fleet: Fleet, organisation: SandboxAdmin, tmp_path: Path) -> Fleet:
    """Two that send 50 chunks a second, and take over soon what no worker carries out any more."""
    rules = tmp_path / "dingrelay.toml"
    rules.write_text('[rules."message.send"]\ncalls = "50/1s"\nrecipients = "1000000/60s"\n')
    fleet.env |= {
        "DINGRELAY_CONFIG": str(rules),
        "DINGRELAY_LEASE": "2",
    }
    fleet.spawn(2)
    organisation.set_latency(5, 30)
    return fleet


@pytest.mark.timeout(60)
def test_workers_and_the_dispatcher_die_and_everybody_gets_it_once(
    two_workers: Fleet, organisation: SandboxAdmin, valkey: Redis
) -> None:
    organisation.add_fault("lost_answer", share=0.06)
    campaign = make(two_workers.env)
    cli = Cli(two_workers.env)
    assert cli.json("campaign", "start", campaign) == {"id": campaign, "state": "running"}

    settled(two_workers.env, campaign, 60)
    first = dispatchers(two_workers)
    first.kill()
    two_workers.spawn(wait=False)
    settled(two_workers.env, campaign, 140)
    second = dispatchers(two_workers)
    assert second is not first
    second.kill()
    settled(two_workers.env, campaign, PEOPLE // SIZE)
    assert_everybody_got_it_once(two_workers.env, campaign, organisation, valkey)
    assert Counter(organisation.audit()["faults"])["lost_answer"] > 0


@pytest.mark.timeout(60)
def test_a_dispatcher_that_stood_still_for_longer_than_its_lease_sends_nothing_twice(
    two_workers: Fleet, organisation: SandboxAdmin, valkey: Redis
) -> None:
    people = PEOPLE // 2
    campaign = make(two_workers.env, people)
    Cli(two_workers.env).json("campaign", "start", campaign)
    settled(two_workers.env, campaign, 40)

    stalled = dispatchers(two_workers)
    lease = valkey.get(keys.DISPATCHER)
    assert lease
    stalled.process.send_signal(signal.SIGSTOP)
    try:
        # No longer: should it hold SQLite's lock, the other gets no further until it goes on.
        wait_until(
            lambda: valkey.get(keys.DISPATCHER) not in {None, lease}, what="another has the lease"
        )
    finally:
        stalled.process.send_signal(signal.SIGCONT)
    settled(two_workers.env, campaign, people // SIZE)
    assert_everybody_got_it_once(two_workers.env, campaign, organisation, valkey, people)
    assert stalled.alive
