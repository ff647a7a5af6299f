"""PostgreSQL in trouble under a campaign and a walk of the directory, with and without a pooler before it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from acceptance.test_user_sync import expected, kept
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers import State as JobState
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync
from dingrelay_tasks.contract import QUEUES
from dingrelay_workers.campaigns.models import State
from support import campaigns
from support.command_line import Cli
from support.databases import prepare, rows
from support.examples import either
from support.servers import Postgres, pgbouncer, postgres

RECIPIENTS, SIZE = either(300, 20_000), either(3, 20)
"""People of the organisation, who are those of the campaign, and people of one chunk."""
DEPARTMENTS = either(10, 200)
"""Number of their departments."""
RULES = '[rules."message.send"]\ncalls = "50/1s"\nrecipients = "1000000/60s"\n'
TIMEOUT = either(120, 400)
"""Seconds for what the machine's rate decides."""
AWAY = either(2.0, 20.0)
"""Seconds for which it is away."""
STROKES = either(2, 10)
"""How often all connections are ended, a second apart."""


def connections_ended(server: Postgres) -> None:
    """All connections end, again and again."""
    for _ in range(STROKES):
        server.end_connections()
        time.sleep(1)


def restarted(server: Postgres) -> None:
    """It ends in order, and starts again."""
    server.stop("fast")
    server.start()


def crashed(server: Postgres) -> None:
    """It ends without a word, and starts again from its log."""
    server.stop("immediate")
    server.start()


def away(server: Postgres) -> None:
    """It is not there for a while."""
    server.stop("fast")
    time.sleep(AWAY)
    server.start()


TROUBLES: list[Callable[[Postgres], None]] = [connections_ended, restarted, crashed, away]


@pytest.fixture
def server() -> Iterator[Postgres]:
    with postgres() as server:
        prepare(server.url)
        yield server


@pytest.fixture(params=either(["pooled"], ["direct", "pooled"]))
def fleet(
    request: pytest.FixtureRequest,
    fleet: Fleet,
    sandbox_env: dict[str, str],
    server: Postgres,
    tmp_path: Path,
) -> Iterator[Fleet]:
    """Workers that reach the database themselves, or by pgbouncer."""
    with ExitStack() as stack:
        url = server.url
        if request.param == "pooled":
            url = stack.enter_context(pgbouncer(url, tmp_path))
        fleet.env["DINGRELAY_DATABASE_URL"] = sandbox_env["DINGRELAY_DATABASE_URL"] = url
        rules = tmp_path / "dingrelay.toml"
        rules.write_text(RULES)
        fleet.env["DINGRELAY_CONFIG"] = str(rules)
        yield fleet
        fleet.stop()


def campaign_row(server: Postgres, campaign: str) -> dict[str, Any]:
    (row,) = rows(server.url, "select * from campaigns where id = :id", id=campaign)
    return row


@pytest.mark.timeout(either(400, 1_500))
def test_everybody_is_reached_once_and_the_directory_is_right(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, server: Postgres
) -> None:
    sandbox.seed(users=RECIPIENTS, departments=DEPARTMENTS)
    sandbox.set_limits(calls="", egress="", recipients="")
    sandbox.set_latency(5, 30)
    workers = fleet.spawn(2, queues=QUEUES)
    campaign = campaigns.put_now(server.url, people=RECIPIENTS, size=SIZE, state=State.DRAFT)
    assert Cli(fleet.env).json("campaign", "start", campaign)["state"] == "running"
    walks: list[str] = []
    for number, trouble in enumerate(TROUBLES, start=1):
        walks.append(client.send(UserSync()).id)
        wait_until(
            lambda: client.status(walks[-1]).state is not JobState.QUEUED, what="the walk is on"
        )
        goal = RECIPIENTS // SIZE * number // (len(TROUBLES) + 1)
        wait_until(
            lambda goal=goal: campaign_row(server, campaign)["settled"] >= goal,
            timeout=TIMEOUT,
            what=f"{goal} chunks are settled before {trouble.__name__}",
        )
        trouble(server)
    traffic.assert_done(wait_for_ends(client, walks, timeout=TIMEOUT))
    wait_until(
        lambda: campaign_row(server, campaign)["state"] == State.DONE,
        timeout=TIMEOUT,
        what="the campaign is done",
    )
    row = campaign_row(server, campaign)
    assert (row["accepted"], row["failed"], row["left_out"]) == (RECIPIENTS, 0, 0)
    contents = sandbox.inboxes(limit=10)["contents"]
    assert [(each["delivered"], each["repeated"]) for each in contents] == [(RECIPIENTS, 0)]
    assert kept({"DINGRELAY_DATABASE_URL": server.url}) == expected(sandbox)
    assert all(worker.alive for worker in workers)


SYNCS, MESSAGES = 40, 20
CONCURRENCY = 8


@pytest.mark.parametrize("fleet", ["direct"], indirect=True)
def test_messages_go_on_beside_a_silent_database(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, server: Postgres
) -> None:
    fleet.spawn(1, queues=QUEUES, concurrency=CONCURRENCY)
    traffic.assert_done(wait_for_ends(client, [client.send(user_sync(0)).id], timeout=30))

    def called() -> int:
        return len(sandbox.calls(api="/topapi/v2/user/get"))

    before = called()
    with server.silent():
        syncs = [client.send(user_sync(number)).id for number in range(1, SYNCS)]
        # Without a bound the first of them would hold all places.
        wait_until(
            lambda: called() > before + CONCURRENCY,
            timeout=TIMEOUT,
            what="further syncs have read a person",
        )
        messages = [client.send(traffic.message(number)).id for number in range(MESSAGES)]
        traffic.assert_done(wait_for_ends(client, messages, timeout=30))
    traffic.assert_done(wait_for_ends(client, syncs, timeout=TIMEOUT))


def user_sync(number: int) -> UserSync:
    """A job that reads a person at DingTalk and writes to the database."""
    return UserSync(scope="user", user=f"u{number}")
