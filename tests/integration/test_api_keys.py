"""API keys in SQL: what is stored, who is let in, and for how long."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from conftest import wait_until_async
from dingrelay_producers.errors import KeyConflict, KeyNotFound, ServiceUnavailable
from dingrelay_producers.store import clock
from dingrelay_producers.store.clock import RedisClock
from dingrelay_workers.database.database import Database
from dingrelay_workers.http import last_known
from dingrelay_workers.http.api_keys import KEY_ID, ApiKey, Grant, Rate
from dingrelay_workers.keys import service
from dingrelay_workers.keys.documents import IssuedKey, RotationRequest
from dingrelay_workers.keys.models import ApiKeyRow
from dingrelay_workers.keys.service import KeyService
from support.rows import all_of, change

CRM = Grant(
    name="crm",
    scopes=frozenset({"messages:write", "jobs:read"}),
    apps=frozenset({"hr"}),
    lanes=frozenset({"normal", "bulk"}),
    sender="crm",
    rate=Rate(50, 1),
    expires_at=datetime(2999, 1, 1, tzinfo=UTC),
)


TIMEOUT = 30
"""Seconds for the database, on a machine that is busy."""


@pytest.fixture
async def keys(database: Database) -> AsyncIterator[KeyService]:
    store = KeyService(database, timeout=TIMEOUT)
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def redis_clock(monkeypatch: pytest.MonkeyPatch) -> RedisClock:
    """A clock that has read the time of Redis."""
    read = RedisClock()
    read.note(time.time(), time.monotonic(), time.monotonic())
    monkeypatch.setattr(clock, "CLOCK", read)
    return read


async def test_a_key_with_an_end_is_neither_good_nor_bad_until_the_time_of_redis_is_read(
    keys: KeyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = await keys.issue(CRM)
    endless = await keys.issue(CRM.model_copy(update={"expires_at": None}))
    rotated = await keys.issue(CRM.model_copy(update={"expires_at": None}))
    await keys.rotate(rotated.id, RotationRequest(overlap="1h"))
    monkeypatch.setattr(clock, "CLOCK", RedisClock())
    assert await keys.verify(endless.key) is not None
    for issued in (ending, rotated):
        with pytest.raises(ServiceUnavailable, match="time of Redis"):
            await keys.verify(issued.key)


async def stored(keys: KeyService, key_id: str) -> ApiKey:
    document = await keys.get(key_id)
    return ApiKey(**{name: getattr(document, name) for name in ApiKey.model_fields})


async def test_a_key_comes_back_as_it_was_given(keys: KeyService) -> None:
    issued = await keys.issue(CRM)
    key_id, _, secret = issued.key.partition(".")

    assert KEY_ID.fullmatch(key_id)
    assert issued.id == key_id
    assert len(secret) == 43  # 256 bits
    found = await keys.verify(issued.key)
    assert found is not None
    assert found == (await stored(keys, issued.id))
    wanted = {name: getattr(found, name) for name in Grant.model_fields}
    assert Grant(**wanted) == CRM
    assert await keys.verify_pair(key_id, issued.key) == found
    assert await keys.verify_pair(key_id, secret) == found
    assert await keys.find(key_id, keys.digest(key_id, secret)) == found
    assert await keys.find(key_id, keys.digest(key_id, "another")) is None


async def test_keys_of_another_form_are_refused(keys: KeyService) -> None:
    issued, other = await keys.issue(CRM), await keys.issue(CRM)
    key_id, _, secret = issued.key.partition(".")
    secrets = ("", secret[:-1], f"{secret}x", other.key.partition(".")[2], "\ud800")
    for wrong in (
        *("", ".", key_id, *(f"{key_id}.{each}" for each in secrets)),
        *(issued.key.upper(), f" {issued.key}", f"{issued.key}\n"),
        *(f"drk_\u0661{key_id[5:]}.{secret}", f"drk_{'a' * 12}.{secret}", "drk_' or 1=1 --.x"),
    ):
        assert await keys.verify(wrong) is None, wrong
    assert await keys.verify_pair(key_id, other.key) is None
    assert await keys.verify_pair(other.id, issued.key) is None


async def test_no_secret_is_stored_or_shown(keys: KeyService, database: Database) -> None:
    issued = await keys.issue(CRM)
    rotated = await keys.rotate(issued.id, RotationRequest(overlap="1h"))
    (row,) = await all_of(database, ApiKeyRow)
    for key in (issued, rotated):
        secret = key.key.partition(".")[2]
        assert secret not in repr(row)
        assert secret not in repr(key)
        assert secret not in repr(await keys.list())
    assert repr(row["digest"]) not in repr(await keys._read(issued.id))


async def test_a_key_without_a_sender_gets_one_of_its_own(keys: KeyService) -> None:
    unnamed = CRM.model_copy(update={"sender": ""})

    async def made(grant: Grant) -> ApiKey:
        return await stored(keys, (await keys.issue(grant)).id)

    assert (await made(unnamed)).sender == "crm"
    chinese = await made(unnamed.model_copy(update={"name": "人事系统"}))
    assert chinese.sender == chinese.id
    assert (await made(unnamed.model_copy(update={"scopes": frozenset({"*"})}))).permits_sender(
        "anyone"
    )


async def refused(keys: KeyService, issued: IssuedKey) -> bool:
    return await keys.verify(issued.key) is None


async def last_used(keys: KeyService, issued: IssuedKey) -> datetime | None:
    return (await keys.get(issued.id)).last_used_at


async def test_an_expired_key_is_not_read_again(keys: KeyService, database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=300)
    issued = await keys.issue(CRM.model_copy(update={"expires_at": soon}))
    # It may have expired by now on a busy machine, which the rest does not depend on.
    await keys.verify(issued.key)
    await wait_until_async(lambda: refused(keys, issued), timeout=10)
    assert datetime.now(UTC) >= soon
    with pytest.raises(KeyConflict, match="has expired; create another"):
        await keys.rotate(issued.id, RotationRequest(overlap="0s"))


async def test_both_secrets_work_during_a_rotation(keys: KeyService, database: Database) -> None:
    first = await keys.issue(CRM)
    second = await keys.rotate(first.id, RotationRequest(overlap="1h"))
    assert second.old_secret_until is not None
    key = await stored(keys, first.id)
    assert await keys.verify(first.key) == await keys.verify(second.key) == key
    (status,) = await keys.list()
    assert status.old_secret_until == second.old_secret_until

    past = datetime.now(UTC) - timedelta(seconds=1)
    old = {service.digest_of(*first.key.split(".")): past.isoformat()}
    await change(database, ApiKeyRow, old_secrets=old)
    other_gateway = KeyService(database, timeout=TIMEOUT)
    assert await other_gateway.verify(first.key) is None
    assert await other_gateway.verify(second.key) == key
    assert (await keys.get(first.id)).old_secret_until is None
    await other_gateway.close()


async def test_a_second_rotation_ends_no_secret_that_clients_use(keys: KeyService) -> None:
    first = await keys.issue(CRM)
    hour = RotationRequest(overlap="1h")
    made = [first, *[await keys.rotate(first.id, hour) for _ in range(10)]]
    assert not any([await refused(keys, each) for each in made])
    with pytest.raises(KeyConflict, match="10 old secrets"):
        await keys.rotate(first.id, hour)
    last = await keys.rotate(first.id, RotationRequest(overlap="0s"))
    assert all([await refused(keys, each) for each in made])
    assert not await refused(keys, last)


async def test_a_shorter_overlap_holds_for_all_secrets_before(keys: KeyService) -> None:
    first = await keys.issue(CRM)
    later, sooner = [
        await keys.rotate(first.id, RotationRequest(overlap=f"{each}h")) for each in (9, 1)
    ]
    assert later.old_secret_until is not None
    assert sooner.old_secret_until is not None
    assert sooner.old_secret_until < later.old_secret_until
    assert (await keys.get(first.id)).old_secret_until == sooner.old_secret_until


async def test_a_revoked_key_is_refused(keys: KeyService, database: Database) -> None:
    issued = await keys.issue(CRM)
    other_gateway = KeyService(database, timeout=TIMEOUT)
    now = 100.0
    other_gateway._known._clock = lambda: now
    assert await other_gateway.verify(issued.key) == await keys.verify(issued.key)

    revoked = await keys.revoke(issued.id)
    assert revoked.revoked_at is not None
    assert (await keys.revoke(issued.id)).revoked_at == revoked.revoked_at
    assert await refused(keys, issued)
    secret = issued.key.partition(".")[2]
    assert await keys.find(issued.id, keys.digest(issued.id, secret)) is None
    now += service.FRESH - 0.001
    assert not await refused(other_gateway, issued)
    now += 0.002
    assert await refused(other_gateway, issued)
    with pytest.raises(KeyConflict, match="is revoked; create another"):
        await keys.rotate(issued.id, RotationRequest(overlap="0s"))
    await other_gateway.close()


async def test_a_key_that_is_not_there_is_named(keys: KeyService) -> None:
    for ask in (
        keys.get("drk_nobodynobody"),
        keys.revoke("drk_nobodynobody"),
        keys.rotate("drk_nobodynobody", RotationRequest(overlap="0s")),
    ):
        with pytest.raises(KeyNotFound, match="no API key drk_nobodynobody"):
            await ask


async def test_the_last_use_is_written_beside_the_requests(database: Database) -> None:
    keys = KeyService(database, timeout=TIMEOUT, write_uses_every=0.01)
    verified, exchanged, unused = [await keys.issue(CRM) for _ in range(3)]
    began = datetime.now(UTC)
    await keys.verify(verified.key)
    # A token that a key was exchanged for uses the key.
    key_id, _, secret = exchanged.key.partition(".")
    assert await keys.find(key_id, keys.digest(key_id, secret)) is not None
    for each in (verified, exchanged):
        await wait_until_async(lambda each=each: last_used(keys, each))
    used_at = await last_used(keys, verified)
    assert used_at is not None
    assert began - timedelta(seconds=1) <= used_at <= datetime.now(UTC)
    assert await last_used(keys, unused) is None
    await keys.close()
    await keys.close()


async def test_a_gateway_that_stops_writes_what_was_used(database: Database) -> None:
    keys = KeyService(database, timeout=TIMEOUT)
    used, wrong = await keys.issue(CRM), await keys.issue(CRM)
    for _ in range(5):
        await keys.verify(used.key)
    await keys.verify(f"{wrong.id}.wrong")
    assert await last_used(keys, used) is None
    await keys.close()
    assert await last_used(keys, used) is not None
    assert await last_used(keys, wrong) is None


async def test_a_database_that_is_away_is_logged_and_costs_no_last_use() -> None:
    database = Database("postgresql://stranger@127.0.0.1:1/nowhere")
    keys = KeyService(database, timeout=TIMEOUT)
    for ask in (keys.verify(f"drk_{'a' * 12}.x"), keys.issue(CRM), keys.list()):
        with pytest.raises(ServiceUnavailable, match="DINGRELAY_DATABASE_URL"):
            await ask
    keys._uses.note("drk_aaaaaaaaaaaa", clock.now())
    await keys._uses._flush()
    assert list(keys._uses._used) == ["drk_aaaaaaaaaaaa"]
    await keys.close()
    await database.dispose()


async def test_a_silent_database_is_reported_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = Database(f"postgresql://someone@127.0.0.1:{port}/x")
        keys = KeyService(database, timeout=0.2)
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            await keys.verify(f"drk_{'a' * 12}.x")
        await keys.close()
        await database.dispose()


async def test_requests_that_come_together_read_a_key_once(keys: KeyService) -> None:
    issued = await keys.issue(CRM)
    reads = 0
    read = keys._read

    async def counted(key_id: str) -> object:
        nonlocal reads
        reads += 1
        return await read(key_id)

    keys._read = counted  # type: ignore[assignment, method-assign]
    found = await asyncio.gather(*(keys.verify(issued.key) for _ in range(50)))
    assert found == [(await stored(keys, issued.id))] * 50
    assert reads == 1


async def test_a_key_that_is_revoked_while_it_is_read_is_not_kept(keys: KeyService) -> None:
    issued = await keys.issue(CRM)
    read, gate = keys._read, asyncio.Event()

    async def slow(key_id: str) -> object:
        found = await read(key_id)
        await gate.wait()
        return found

    keys._read = slow  # type: ignore[assignment, method-assign]
    early = asyncio.create_task(keys.verify(issued.key))
    await asyncio.sleep(0)
    await keys.revoke(issued.id)
    gate.set()
    await early  # it asked before
    assert await refused(keys, issued)


async def test_keys_in_use_are_verified_while_the_database_is_away(keys: KeyService) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    used, fresh = await keys.issue(CRM), await keys.issue(CRM)
    brief = await keys.issue(CRM.model_copy(update={"expires_at": soon}))
    now = 100.0
    keys._known._clock = lambda: now
    for issued in (used, brief):
        assert await keys.verify(issued.key) is not None

    async def away(key_id: str) -> None:
        raise ServiceUnavailable("the database cannot be reached")

    keys._read = away  # type: ignore[assignment, method-assign]
    now += service.FRESH
    for _ in range(3):
        assert await keys.verify(used.key) is not None
    assert await keys.verify(f"{used.id}.wrong") is None
    assert keys.any_known
    with pytest.raises(ServiceUnavailable):
        await keys.verify(fresh.key)
    await wait_until_async(lambda: datetime.now(UTC) > soon)
    assert await keys.verify(brief.key) is None
    now += timedelta(minutes=59).total_seconds()
    assert await keys.verify(used.key) is not None
    now += timedelta(minutes=1).total_seconds()
    assert not keys.any_known
    with pytest.raises(ServiceUnavailable):
        await keys.verify(used.key)


async def test_so_many_answers_are_kept_and_none_of_what_there_is_not() -> None:
    looked_up: list[str] = []

    async def read(name: str) -> object:
        looked_up.append(name)
        return None if name == "stranger" else object()

    kept = last_known.LastKnown[object](fresh=service.FRESH)
    names = [str(number) for number in range(last_known.MOST + 10)]
    for name in [*names, names[-1], "stranger", "stranger"]:
        await kept.ask(name, partial(read, name))
    assert len(kept._known) == last_known.MOST
    assert (looked_up.count(names[-1]), looked_up.count("stranger")) == (1, 2)
    assert kept._asking == {}
