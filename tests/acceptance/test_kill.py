"""kill -9 of workers under load: every job is carried out, and none twice."""

import random
from pathlib import Path

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, Worker, statuses
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from support.examples import either

MESSAGES = either(120, 320)
APPROVALS = either(24, 64)
KILLS = either(4, 10)
ENDED_BETWEEN_KILLS = 22
NEVER = 3600
"""Seconds: neither the end of a lease nor a grace brings anything back in this test, only that a
worker was noticed to be gone."""
TIMEOUT = 100
"""Seconds until so little progress is a failure, on a machine that is busy with other things."""


class Reaper:
    """Kills workers at random, and watches until what they ran is run again."""

    def __init__(self, fleet: Fleet, valkey: Redis, ids: list[str]) -> None:
        self._fleet = fleet
        self._valkey = valkey
        self._ids = ids
        self._orphans: list[dict[str, str]] = []
        self.recovered = 0

    def kill_one(self) -> None:
        """Kill a worker that is at work, and start another."""
        wait_until(self._at_work, what="a worker is at work")
        random.choice(self._at_work()).kill()
        self._orphans.append(traffic.running(self._valkey, self._ids))
        self._fleet.spawn(wait=False)

    def wait_for_ends(self, count: int) -> None:
        """Return once so many jobs have ended."""
        wait_until(
            lambda: self._look() >= count,
            timeout=TIMEOUT,
            what=f"{count} jobs have ended",
            pause=0.1,
        )

    def _look(self) -> int:
        """Note which orphans have run again or ended; how many jobs have ended."""
        states = traffic.states(self._valkey, self._ids)
        for orphans in self._orphans:
            for job_id in [each for each in orphans if states[each] != ("running", orphans[each])]:
                del orphans[job_id]
                self.recovered += 1
        return sum(State(state).ended for state, _ in states.values())

    @property
    def orphans(self) -> int:
        """How many jobs that ran when a worker was killed have not run again."""
        return sum(len(orphans) for orphans in self._orphans)

    def _at_work(self) -> list[Worker]:
        return [worker for worker in self._fleet.alive if worker.ready]


@pytest.mark.timeout(240)
def test_workers_die_and_every_job_is_carried_out_once(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin, tmp_path: Path
) -> None:
    sandbox.set_latency(5, 30)
    for api in (traffic.SEND, traffic.CREATE):
        sandbox.add_fault("lost_answer", api=api, share=0.02)
    # Approvals are slowed down, so that they are under way for as long as the messages.
    fleet.env |= traffic.write_rules(tmp_path, approval_create="5/1s")
    fleet.env |= {"DINGRELAY_LEASE": str(NEVER)}
    fleet.spawn(3)
    forms = [traffic.approval(number, alike=4) for number in range(APPROVALS)]
    messages = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    approvals = traffic.send_all(client, forms)
    ids = [*messages, *approvals]

    reaper = Reaper(fleet, valkey, ids)
    for kill in range(1, KILLS + 1):
        reaper.wait_for_ends(kill * ENDED_BETWEEN_KILLS)
        reaper.kill_one()
    reaper.wait_for_ends(len(ids))
    ended = statuses(client, ids)
    assert reaper.orphans == 0
    assert reaper.recovered
    traffic.assert_done(ended)
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES))
    traffic.assert_each_exists_once(sandbox, forms, ended[MESSAGES:])
