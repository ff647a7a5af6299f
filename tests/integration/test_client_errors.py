"""Whatever is wrong with a call of the client, its error is one of ours and names it."""

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from dingrelay_producers import (
    AsyncClient,
    Client,
    DingrelayError,
    InvalidArgument,
    JobNotFound,
    ServiceUnavailable,
    Settings,
    UnreadableRecord,
)
from dingrelay_producers.store import keys
from dingrelay_tasks import ApprovalCreate, ContractError, MessageSend, UserSync

TEXT = {"msgtype": "text", "text": {"content": "你好"}}
GOOD = MessageSend.parse({"to": {"users": ["u1"]}, "message": TEXT})
NO_JOBS: list[Any] = [None, "x", b"x", 3, {}, {"to": 1}, [], MessageSend]
NO_IDS: list[Any] = [None, 3, "", b"x", [], "\ud800", "a\x00b", "a\nb"]
NO_LIMITS: list[Any] = [None, "x", -1, 0, 1.5, True, 10**30]
NO_TIMEOUTS: list[Any] = [None, "x", float("nan")]


@pytest.fixture
def client(valkey_url: str) -> Iterator[Client]:
    with Client(Settings.load(env="test", redis_url=valkey_url)) as client:
        yield client


def shown(value: Any) -> str:
    """A value in a test's name, which is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))


@pytest.mark.parametrize("job", NO_JOBS, ids=shown)
def test_a_wrong_job_is_refused(client: Client, job: Any) -> None:
    with pytest.raises(InvalidArgument, match="job: must be"):
        client.send(job)
    with pytest.raises(InvalidArgument, match="job: must be"):
        client.send_many([GOOD, job])


@pytest.mark.parametrize("jobs", [None, 3, "x", {}, GOOD, MessageSend], ids=shown)
def test_wrong_lists_of_jobs_are_refused(client: Client, jobs: Any) -> None:
    with pytest.raises(InvalidArgument, match="jobs: must be"):
        client.send_many(jobs)


@pytest.mark.parametrize("job_id", NO_IDS, ids=shown)
@pytest.mark.parametrize("name", ["job", "status", "cancel", "requeue", "discard"])
def test_wrong_ids_are_refused(client: Client, name: str, job_id: Any) -> None:
    with pytest.raises(InvalidArgument, match="job_id: must be"):
        getattr(client, name)(job_id)


@pytest.mark.parametrize("limit", NO_LIMITS, ids=shown)
@pytest.mark.parametrize("name", ["recent", "dead"])
def test_wrong_limits_are_refused(client: Client, name: str, limit: Any) -> None:
    with pytest.raises(InvalidArgument, match="limit: must be"):
        getattr(client, name)(limit)


@pytest.mark.parametrize("timeout", NO_TIMEOUTS, ids=shown)
async def test_wrong_timeouts_are_refused(client: Client, timeout: Any) -> None:
    job = client.send(GOOD)
    with pytest.raises(InvalidArgument, match="timeout: must be"):
        job.wait(timeout)
    async with AsyncClient(client.settings) as asynchronous:
        with pytest.raises(InvalidArgument, match="timeout: must be"):
            await asynchronous.job(job.id).wait(timeout)


def test_it_is_one_of_ours() -> None:
    assert issubclass(InvalidArgument, DingrelayError)


def test_a_key_without_a_record_is_no_job(client: Client, valkey_url: str) -> None:
    with Redis.from_url(valkey_url) as redis:
        redis.hset(keys.job("half"), "note", "x")
        redis.expire(keys.job("half"), 60)
    with pytest.raises(JobNotFound):
        client.status("half")


def test_a_socket_file_that_is_not_there() -> None:
    settings = Settings.load(env="test", redis_url="unix:///nowhere/redis.sock")
    with Client(settings) as client, pytest.raises(ServiceUnavailable, match="DINGRELAY_REDIS_URL"):
        client.recent()


def test_a_field_that_no_campaign_has_is_named(client: Client) -> None:
    fields: dict[str, Any] = {"nmae": "party"}
    with pytest.raises(InvalidArgument, match=r"^nmae: must be one of name, "):
        client.campaign(**fields)


def test_errors_of_redis_are_shown(valkey_url: str) -> None:
    url = valkey_url.removesuffix("/0") + "/9999"
    client = Client(Settings.load(env="test", redis_url=url))
    with client, pytest.raises(ServiceUnavailable, match=r"DINGRELAY_REDIS_URL: .*DB index"):
        client.status("x")


@pytest.mark.parametrize("given", [1, None, {"to": {"users": ["u1"]}, "message": TEXT}], ids=shown)
@pytest.mark.parametrize("contract", [MessageSend, ApprovalCreate, UserSync])
def test_fields_without_names(contract: Any, given: Any) -> None:
    with pytest.raises(ContractError, match=rf"^job: .*{contract.__name__}\.parse"):
        contract(given)


ABSURD: list[Any] = [
    datetime(2030, 1, 1),  # noqa: DTZ001 - without a zone, on purpose
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    float("nan"),
    10**30,
]


@pytest.mark.parametrize("moment", ABSURD, ids=shown)
@pytest.mark.parametrize("field", ["send_at", "expires_at"])
def test_a_moment_that_is_none(field: str, moment: Any) -> None:
    with pytest.raises(ContractError) as error:
        MessageSend.parse({"to": {"users": ["u1"]}, "message": TEXT, field: moment})
    assert error.value.field == field


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        (b"state", b"paused", "state"),
        (b"state", b"", "state"),
        (b"created", b"soon", "created"),
        (b"created", b"9" * 40, "created"),
        (b"attempts", b"\xff", "attempts"),
        (b"result", b"[1]", "result"),
        (b"error", b"{}", "error"),
        (b"kind", b"", "kind"),
    ],
)
def test_a_record_of_a_release_to_come_names_its_field(
    client: Client, valkey_url: str, field: bytes, value: bytes, named: str
) -> None:
    job = client.send(GOOD)
    with Redis.from_url(valkey_url) as redis:
        redis.hset(keys.job(job.id), field, value)
    for ask in (job.status, job.wait, client.recent):
        with pytest.raises(UnreadableRecord, match=rf"{job.id}: {named} in its record") as error:
            ask()
        assert (error.value.job_id, error.value.field) == (job.id, named)


def test_an_unknown_state_is_named_in_each_error(client: Client, valkey_url: str) -> None:
    job = client.send(GOOD)
    with Redis.from_url(valkey_url) as redis:
        redis.hset(keys.job(job.id), "state", "paused")
    for change in (client.cancel, client.requeue):
        with pytest.raises(UnreadableRecord, match="state in its record is 'paused'"):
            change(job.id)


PLANS: dict[str, list[Any]] = {
    "recipients": [1, b"x", {"userid": "u1"}, object(), "", "/nowhere.csv", io.StringIO("userid")],
    "without": [1, b"x", {}, "/nowhere.csv"],
    "users": [None, 1, "u1", b"u1", {"u1": 1}, iter(["u1"])],
    "departments": [None, 1, "1"],
    "without_departments": [None, 1, "1"],
    "everyone": [None, 1, "false"],
    "malformed": [None, "x", []],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in PLANS for value in PLANS[field]], ids=shown
)
def test_a_campaign_names_what_is_wrong(client: Client, field: str, value: Any) -> None:
    plan: dict[str, Any] = {"name": "party", "message": TEXT, field: value}
    with pytest.raises(InvalidArgument, match=f"^{field}: must be"):
        client.campaign(**plan).preview()


def test_a_campaign_names_what_it_lacks(client: Client) -> None:
    plan: dict[str, Any] = {"name": "party"}
    with pytest.raises(InvalidArgument, match=r"^message: must be given"):
        client.campaign(**plan)


@pytest.mark.parametrize("campaign", NO_IDS, ids=shown)
def test_an_unknown_campaign_is_refused(client: Client, campaign: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^campaign_id: must be"):
        client.campaign_ref(campaign)


async def test_wrong_arguments_of_a_campaign_are_refused(client: Client) -> None:
    campaign: Any = client.campaign_ref("some")
    for users in (None, 1, "u1", {"u1": 1}):
        with pytest.raises(InvalidArgument, match=r"^users: must be"):
            campaign.test(users)
    with pytest.raises(InvalidArgument, match=r"^fields: must be"):
        campaign.test(["u1"], 1)
    for sample in (0, "x", 1.5, True):
        with pytest.raises(InvalidArgument, match=r"^sample: must be"):
            campaign.confirm(sample)
    asynchronous: Any = AsyncClient(client.settings).campaign_ref("some")
    for timeout in NO_TIMEOUTS:
        with pytest.raises(InvalidArgument, match=r"^timeout: must be"):
            campaign.wait(timeout)
        with pytest.raises(InvalidArgument, match=r"^timeout: must be"):
            await asynchronous.wait(timeout)


def test_wrong_resolutions_of_an_unknown_job_are_refused(client: Client) -> None:
    resolve: Any = client.resolve
    wrong: list[dict[str, Any]] = [{"sent": "no"}, {"not_created": "no"}, {"instance": 1}]
    for arguments in wrong:
        (name,) = arguments
        with pytest.raises(InvalidArgument, match=f"^{name}: must be"):
            resolve("some", **arguments)
