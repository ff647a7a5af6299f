"""kill -9 of a worker whose calls carry many jobs: each is carried out, and none twice."""

from collections.abc import Iterator

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from jobs import message

SOON = 3
"""Seconds after which a worker counts as gone, and a wake-up as lost."""


@pytest.fixture
def impatient(client: Client) -> Iterator[Client]:
    """A client whose wake-ups are looked for soon."""
    with Client(client.settings.model_copy(update={"lease": SOON})) as impatient:
        yield impatient


def test_a_worker_dies_with_the_jobs_of_its_call(
    fleet: Fleet, impatient: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    sandbox.set_latency(200, 400)
    fleet.env |= {"DINGRELAY_LEASE": str(SOON)}
    everyone = [f"u{number + 1}" for number in range(traffic.PEOPLE)]
    ids = [impatient.send(message(user)).id for user in everyone]
    rules = '{"message.send": {"calls": "4/1s", "recipients": ""}}'
    first, _ = fleet.spawn(2, DINGRELAY_RULES=rules)
    # Not before: a worker that dies while it fetches the token keeps the other one waiting.
    wait_until(lambda: sandbox.audit()["calls"].get(traffic.SEND), what="a call has arrived")
    wait_until(lambda: len(traffic.running(valkey, ids)) > 20, what="a call carries many jobs")
    first.kill()
    ended = wait_for_ends(impatient, ids, timeout=40)
    assert {status.state for status in ended} == {State.DONE}
    audit = sandbox.audit()
    assert (audit["delivered"], audit["reached"]) == (traffic.PEOPLE, traffic.PEOPLE)
    assert audit["calls"][traffic.SEND]["ok"] < traffic.PEOPLE / 4
