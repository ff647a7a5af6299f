"""Whatever is wrong with a call of the client, its error is one of ours and names it."""

from collections.abc import Iterator
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
    keys,
)
from dingrelay_tasks import MessageSend

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


@pytest.mark.parametrize("job", NO_JOBS, ids=ascii)
def test_what_is_no_job(client: Client, job: Any) -> None:
    with pytest.raises(InvalidArgument, match="job: must be"):
        client.send(job)
    with pytest.raises(InvalidArgument, match="job: must be"):
        client.send_many([GOOD, job])


@pytest.mark.parametrize("jobs", [None, 3, "x", {}, GOOD, MessageSend], ids=ascii)
def test_what_is_no_jobs(client: Client, jobs: Any) -> None:
    with pytest.raises(InvalidArgument, match="jobs: must be"):
        client.send_many(jobs)


@pytest.mark.parametrize("job_id", NO_IDS, ids=ascii)
@pytest.mark.parametrize("name", ["job", "status", "cancel", "requeue", "discard"])
def test_what_is_no_id(client: Client, name: str, job_id: Any) -> None:
    with pytest.raises(InvalidArgument, match="job_id: must be"):
        getattr(client, name)(job_id)


@pytest.mark.parametrize("limit", NO_LIMITS, ids=ascii)
@pytest.mark.parametrize("name", ["recent", "dead"])
def test_what_is_no_limit(client: Client, name: str, limit: Any) -> None:
    with pytest.raises(InvalidArgument, match="limit: must be"):
        getattr(client, name)(limit)


@pytest.mark.parametrize("timeout", NO_TIMEOUTS, ids=ascii)
async def test_what_is_no_timeout(client: Client, timeout: Any) -> None:
    job = client.send(GOOD)
    with pytest.raises(InvalidArgument, match="timeout: must be"):
        job.wait(timeout)
    async with AsyncClient(client.settings) as asynchronous:
        with pytest.raises(InvalidArgument, match="timeout: must be"):
            await asynchronous.job(job.id).wait(timeout)


def test_it_is_one_of_ours() -> None:
    assert issubclass(InvalidArgument, DingrelayError)


def test_what_is_no_record_is_no_job(client: Client, valkey_url: str) -> None:
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


def test_what_redis_answers_is_told(valkey_url: str) -> None:
    url = valkey_url.removesuffix("/0") + "/9999"
    client = Client(Settings.load(env="test", redis_url=url))
    with client, pytest.raises(ServiceUnavailable, match=r"DINGRELAY_REDIS_URL: .*DB index"):
        client.status("x")
