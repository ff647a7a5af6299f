"""Workers, clients and gateways of the release before and of this one, on one Redis and one database.

It takes two minutes, most of them starting processes: `make releases` runs it, and `make test` does not.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import MESSAGE_QUEUES, Fleet, settings_of, wait_for_ends
from acceptance.gateway_process import GatewayProcess, made_key
from acceptance.previous_release import PreviousRelease, build
from acceptance.test_user_sync import expected, kept
from conftest import wait_until
from dingrelay_producers import Client, JobStatus, State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApiCall, ApprovalCreate, UserSync
from dingrelay_tasks.contract import DIRECTORY_QUEUE, Contract
from support.databases import rows
from support.examples import either

RELEASES = "RELEASES"
"""The variable by which this is asked for."""
QUEUES = (*MESSAGE_QUEUES, DIRECTORY_QUEUE)
"""All that the release before knows."""
MESSAGES, APPROVALS, CALLS = either(80, 800), either(12, 60), either(5, 20)
"""Numbers of requests of each producer; of the last only those that it supports."""
ALIKE = 2
"""So many approvals in a row have the same form: a lost answer must not be taken for another's."""
USERS = [f"u{number + 1}" for number in range(200)]
CALL = {"method": "POST", "path": "/topapi/v2/user/get", "body": {"userid": "u1"}, "effect": "none"}

PATHS = {
    "message-send": "/v1/messages",
    "approval-create": "/v1/approvals",
    "api-call": "/v1/calls",
}

pytestmark = pytest.mark.skipif(not os.environ.get(RELEASES), reason="`make releases` runs it")


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> PreviousRelease:
    return build(tmp_path_factory.mktemp("previous"))


def news(number: int) -> dict[str, Any]:
    """The message of a campaign."""
    return {"msgtype": "text", "text": {"content": f"全员通知 {number}"}}


class Load:
    """The requests, in the order of their acceptance."""

    def __init__(self) -> None:
        self.jobs: list[Contract] = []
        self.ids: list[str] = []

    def next(self) -> list[Contract]:
        """The next requests of a producer."""
        made = len(self.of("approval-create"))
        approvals = range(made, made + APPROVALS)
        forms = [traffic.approval(number, alike=ALIKE) for number in approvals]
        return [*self.next_messages(MESSAGES), *forms]

    def next_messages(self, count: int) -> list[Contract]:
        """Messages that were not asked for yet."""
        made = len(self.of("message-send"))
        return [traffic.message(number) for number in range(made, made + count)]

    def accepted(self, jobs: list[Contract], ids: list[str]) -> None:
        assert len(jobs) == len(ids)
        self.jobs += jobs
        self.ids += ids

    def of(self, kind: str) -> list[int]:
        return [number for number, job in enumerate(self.jobs) if job.kind == kind]


def post(gateway: GatewayProcess, key: str, path: str, job: Contract) -> str:
    """The id of a job that the gateway accepts."""
    job_id: str = gateway.ask("POST", path, job.wire(), key=key).json["id"]
    return job_id


def campaign_row(env: dict[str, str], campaign: str) -> dict[str, Any]:
    query = "select * from campaigns where id = :campaign"
    (row,) = rows(env["DINGRELAY_DATABASE_URL"], query, campaign=campaign)
    return row


def is_done(env: dict[str, str], campaign: str) -> bool:
    return bool(campaign_row(env, campaign)["state"] == "done")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database(
    request: pytest.FixtureRequest, fleet: Fleet, sandbox_env: dict[str, str]
) -> str:
    """The URL of a database of that kind, without tables, which all processes have."""
    if request.param == "sqlite":
        url = fleet.env["DINGRELAY_DATABASE_URL"]
        Path(url.removeprefix("sqlite:///")).unlink()
    else:
        url = request.getfixturevalue("postgres_url")
    sandbox_env["DINGRELAY_DATABASE_URL"] = fleet.env["DINGRELAY_DATABASE_URL"] = url
    return url


@pytest.fixture
def client(empty_database: str, sandbox_env: dict[str, str]) -> Iterator[Client]:
    """A client of this release."""
    with Client(settings_of(sandbox_env)) as client:
        yield client


@pytest.mark.timeout(900)
def test_they_share_the_work_in_both_directions(
    previous: PreviousRelease,
    fleet: Fleet,
    client: Client,
    valkey: Redis,
    sandbox: SandboxAdmin,
    tmp_path: Path,
) -> None:
    # 0.2.0 may keep a job for ever that a throttle met while it waited for its slot.
    sandbox.set_limits(calls=None)
    sandbox.set_latency(5, 30)
    sandbox.add_fault("lost_answer", api=traffic.CREATE, share=0.1)
    fleet.env |= traffic.write_rules(tmp_path, message_send="40/1s", approval_create="8/1s")
    # What the release before drops of kinds that it does not know is missed after so many seconds.
    # 0.2.0 has the grace of a wake-up apart from the lease.
    fleet.env |= {"DINGRELAY_LEASE": "3", "DINGRELAY_WAKE_GRACE": "3"}
    load = Load()

    # Its workers have made the tables, and are at work.
    first, _ = fleet.spawn(2, queues=QUEUES, release=previous)
    jobs = [*load.next(), UserSync()]
    load.accepted(jobs, previous.enqueue(fleet.env, jobs))
    campaigns = [previous.broadcast(fleet.env, name="first", message=news(0), recipients=USERS)]
    wait_until(lambda: traffic.done(valkey, load.ids) > 0, what="the release before is at work")

    # This one joins: its first command migrates, while the others write.
    key = made_key(fleet, "mixed")
    with closing(GatewayProcess(fleet, tmp_path)) as gateway:
        wait_until(gateway.ready, timeout=60)
        # What a gateway of this release accepts, workers of the one before carry out.
        jobs = load.next()
        ids = [post(gateway, key, PATHS[job.kind], job) for job in jobs]
        load.accepted(jobs, ids)
        wait_for_ends(client, ids, timeout=200)
        second, *_ = fleet.spawn(2, queues=QUEUES)
        jobs = load.next()
        load.accepted(jobs, traffic.send_all(client, jobs))
        jobs = load.next_messages(MESSAGES // 4)
        jobs += [ApiCall.parse(CALL) for _ in range(CALLS)]
        load.accepted(jobs, [post(gateway, key, PATHS[job.kind], job) for job in jobs])
    campaigns.append(
        previous.broadcast(fleet.env, name="second", message=news(1), recipients=USERS)
    )

    # Each loses a worker, and gets another one.
    for worker in (first, second):
        worker.kill()
    fleet.spawn(1, queues=QUEUES, release=previous)
    fleet.spawn(1, queues=QUEUES)
    # A call is lost for half a minute whenever 0.2.0, which does not know it, gets it: as often as not.
    wait_for_ends(client, load.ids, timeout=400)
    for campaign in campaigns:
        wait_until(lambda campaign=campaign: is_done(fleet.env, campaign), timeout=60)

    # The way back: what this release has accepted is carried out by the one before alone.
    jobs = [*load.next(), UserSync()]
    ids = traffic.send_all(client, jobs)
    for worker in fleet.alive:
        if worker.release is None:
            worker.stop()
    load.accepted(jobs, ids)
    plan = client.campaign(name="third", message=news(2), recipients=USERS)
    third = plan.create()
    third.start()
    campaigns.append(third.id)
    ended = wait_for_ends(client, load.ids, timeout=200)
    wait_until(lambda: is_done(fleet.env, third.id), timeout=60, what="the last campaign is done")

    traffic.assert_done(ended)
    assert {each["state"] for each in previous.statuses(fleet.env, load.ids)} == {State.DONE}
    assert client.dead() == []
    assert_carried_out_once(load, ended, campaigns, fleet.env, sandbox)
    assert kept(fleet.env) == expected(sandbox)


def assert_carried_out_once(
    load: Load,
    ended: list[JobStatus],
    campaigns: list[str],
    env: dict[str, str],
    sandbox: SandboxAdmin,
) -> None:
    """Each message and each campaign came to everybody once, and each approval is there once."""
    arrived = {
        content["message"]["text"]["content"]: (content["delivered"], content["repeated"])
        for content in sandbox.inboxes()["contents"]
    }
    for number, campaign in enumerate(campaigns):
        assert arrived.pop(news(number)["text"]["content"])[0] == len(USERS)
        row = campaign_row(env, campaign)
        assert (row["accepted"], row["failed"], row["left_out"]) == (len(USERS), 0, 0)
    messages = load.of("message-send")
    assert arrived == {traffic.text(number): (1, 0) for number in range(len(messages))}
    approvals = load.of("approval-create")
    traffic.assert_each_exists_once(
        sandbox,
        [job for number in approvals if isinstance(job := load.jobs[number], ApprovalCreate)],
        [ended[number] for number in approvals],
    )
