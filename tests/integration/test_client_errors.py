"""Whatever is wrong with a call of the client, its error is one of ours and names it."""

import io
import itertools
from collections.abc import Awaitable, Callable, Sequence
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
NO_USERS: list[Any] = [None, 1, "u1", {"u1": 1}]
NO_SAMPLES: list[Any] = [0, "x", 1.5, True]


Call = Callable[[Client, Any], object]


def method(name: str) -> Call:
    return lambda client, value: getattr(client, name)(value)


def resolve(field: str) -> Call:
    return lambda client, value: client.resolve("some", **{field: value})


def preview(field: str) -> Call:
    plan: dict[str, Any] = {"name": "party", "message": TEXT}
    return lambda client, value: client.campaign(**plan | {field: value}).preview()


PLANS: dict[str, list[Any]] = {
    "recipients": [1, b"x", {"userid": "u1"}, object(), "", "/nowhere.csv", io.StringIO("userid")],
    "without": [1, b"x", {}, "/nowhere.csv"],
    "users": [*NO_USERS, b"u1", iter(["u1"])],
    "departments": [None, 1, "1"],
    "without_departments": [None, 1, "1"],
    "everyone": [None, 1, "false"],
    "malformed": [None, "x", []],
}
CALLS: list[tuple[str, Call, Sequence[Any]]] = [
    ("job", method("send"), NO_JOBS),
    ("job", lambda client, job: client.send_many([GOOD, job]), NO_JOBS),
    ("jobs", method("send_many"), [None, 3, "x", {}, GOOD, MessageSend]),
    *(
        ("job_id", method(name), NO_IDS)
        for name in ("job", "status", "cancel", "requeue", "discard")
    ),
    *(("limit", method(name), NO_LIMITS) for name in ("recent", "dead")),
    ("timeout", lambda client, timeout: client.send(GOOD).wait(timeout), NO_TIMEOUTS),
    *((name, resolve(name), ["no"]) for name in ("sent", "not_created")),
    ("instance", resolve("instance"), [1]),
    *((name, preview(name), values) for name, values in PLANS.items()),
    ("campaign_id", method("campaign_ref"), NO_IDS),
    ("template_id", method("template"), NO_IDS),
    ("template_id", method("delete_template"), NO_IDS),
    ("users", lambda client, users: client.campaign_ref("some").test(users), NO_USERS),
    ("fields", lambda client, fields: client.campaign_ref("some").test(["u1"], fields), [1]),
    ("sample", lambda client, each: client.campaign_ref("some").confirm(each), NO_SAMPLES),
    ("timeout", lambda client, each: client.campaign_ref("some").wait(each), NO_TIMEOUTS),
]
"""The argument that is wrong, the call, and what it is called with."""


def test_a_wrong_argument_is_named(client: Client) -> None:
    for name, call, values in CALLS:
        for value in values:
            with pytest.raises(InvalidArgument, match=f"^{name}: must be"):
                call(client, value)


async def test_wrong_timeouts_are_refused_on_a_loop(client: Client) -> None:
    asynchronous = AsyncClient(client.settings)
    waits: list[Callable[[Any], Awaitable[object]]] = [
        asynchronous.job(client.send(GOOD).id).wait,
        asynchronous.campaign_ref("some").wait,
    ]
    for wait in waits:
        for timeout in NO_TIMEOUTS:
            with pytest.raises(InvalidArgument, match=r"^timeout: must be"):
                await wait(timeout)
    await asynchronous.aclose()


def test_it_is_one_of_ours() -> None:
    assert issubclass(InvalidArgument, DingrelayError)


def test_a_key_without_a_record_is_no_job(client: Client, store: Redis) -> None:
    store.hset(keys.job("half"), "note", "x")
    store.expire(keys.job("half"), 60)
    with pytest.raises(JobNotFound):
        client.status("half")


def test_a_socket_file_that_is_not_there() -> None:
    settings = Settings.load(env="test", redis_url="unix:///nowhere/redis.sock")
    with Client(settings) as client, pytest.raises(ServiceUnavailable, match="DINGRELAY_REDIS_URL"):
        client.recent()


def test_errors_of_redis_are_shown(valkey_url: str) -> None:
    url = valkey_url.removesuffix("/0") + "/9999"
    client = Client(Settings.load(env="test", redis_url=url))
    with client, pytest.raises(ServiceUnavailable, match=r"DINGRELAY_REDIS_URL: .*DB index"):
        client.status("x")


@pytest.mark.parametrize("contract", [MessageSend, ApprovalCreate, UserSync])
def test_fields_without_names(contract: Any) -> None:
    for given in (1, None, {"to": {"users": ["u1"]}, "message": TEXT}):
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


def test_a_moment_that_is_none() -> None:
    for moment, field in itertools.product(ABSURD, ("send_at", "expires_at")):
        with pytest.raises(ContractError) as error:
            MessageSend.parse({"to": {"users": ["u1"]}, "message": TEXT, field: moment})
        assert error.value.field == field


def test_a_record_of_a_release_to_come_names_its_field(client: Client, store: Redis) -> None:
    job = client.send(GOOD)
    record = store.hgetall(keys.job(job.id))
    for field, value in (
        *(("state", b""), ("created", b"soon"), ("created", b"9" * 40), ("attempts", b"\xff")),
        *(("result", b"[1]"), ("error", b"{}"), ("kind", b""), ("state", b"paused")),
    ):
        store.delete(keys.job(job.id))
        store.hset(keys.job(job.id), mapping={**record, field: value})
        store.expire(keys.job(job.id), 60)
        named = rf"{job.id}: {field} in its record"
        for ask in (job.status, job.wait, client.recent):
            with pytest.raises(UnreadableRecord, match=named) as error:
                ask()
            assert (error.value.job_id, error.value.field) == (job.id, field)
    for change in (client.cancel, client.requeue):
        with pytest.raises(UnreadableRecord, match="state in its record is 'paused'"):
            change(job.id)


def test_a_campaign_names_a_field_that_is_none_and_what_it_lacks(client: Client) -> None:
    none: Any = {"nmae": "party"}
    with pytest.raises(InvalidArgument, match=r"^nmae: must be one of name, "):
        client.campaign(**none)
    with pytest.raises(InvalidArgument, match=r"^message: must be given"):
        client.campaign(name="party")
