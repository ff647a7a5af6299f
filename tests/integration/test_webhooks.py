"""Endpoints hear of everything at least once, whatever they are like."""

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis
from standardwebhooks import WebhookVerificationError

from dingrelay_producers.errors import EndpointConflict, EndpointNotFound
from dingrelay_producers.settings import SettingsError
from dingrelay_producers.store import keys
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.keys.documents import RotationRequest
from dingrelay_workers.minutes import MINUTES
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow, NoticeRow
from dingrelay_workers.webhooks import dispatcher, endpoints, secret, service
from dingrelay_workers.webhooks.deliverer import PLACES
from dingrelay_workers.webhooks.documents import ResumeRequest
from dingrelay_workers.webhooks.endpoints import NEEDED
from support.examples import either
from support.outages import OpenFleet, eventually, message
from support.rows import all_of, change, count
from support.webhooks import Office, Receiver, a_receiver, answering, hanging, hurry, verified

OpenOffice = Callable[..., Awaitable[Office]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as receiver:
        yield receiver


@pytest.fixture
async def office(opened: OpenFleet) -> AsyncIterator[OpenOffice]:
    offices: list[Office] = []

    async def open_office(**settings: Any) -> Office:
        office = Office(await opened(**settings))
        offices.append(office)
        return office

    yield open_office
    for each in offices:
        await each.close()


@pytest.fixture
async def at(office: OpenOffice) -> Office:
    """One with the settings that most tests have."""
    return await office()


def people(count: int) -> list[str]:
    return [f"u{number}" for number in range(count)]


async def test_a_notice_is_sent_as_the_spec_says(at: Office, receiver: Receiver) -> None:
    issued = await at.add(receiver.url, "directory.*", "job.*")
    (notice,) = await at.people_left(["ann"])
    await at.arrived(receiver, [notice])
    (request,) = receiver.requests
    assert (request.id, request.headers["Content-Type"]) == (notice, "application/json")
    assert abs(int(request.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    document = verified(request, issued.secret)
    assert document.keys() == {"type", "timestamp", "data"}
    assert document["type"] == "directory.user.left"
    assert document["data"] == {"app": "default", "userid": "ann"}
    assert datetime.fromisoformat(document["timestamp"]).tzinfo
    with pytest.raises(WebhookVerificationError):
        verified(request, (await at.add("http://127.0.0.1:9/")).secret)
    (draft,) = await at.fleet.enqueue(message(1))
    await eventually(lambda: len(receiver.taken) == 2)
    document = verified(receiver.taken[1], issued.secret)
    assert document["type"] == "job.done"
    assert document["data"] == (await at.fleet.status(draft)).to_json()


async def test_an_endpoint_shows_what_it_accepted_in_the_last_minutes(
    at: Office, receiver: Receiver
) -> None:
    issued = await at.add(receiver.url)
    await at.arrived(receiver, await at.people_left(["a", "b"]))
    await MINUTES.report(at.resources.redis)
    assert sum((await at.store.get(issued.id)).health.minutes) == 2


async def test_an_endpoint_gets_what_it_chose_only(at: Office, receiver: Receiver) -> None:
    await at.add(f"{receiver.url}/hr", "directory.*", apps=["hr"])
    await at.add(f"{receiver.url}/crm", "job.*", "directory.*", senders=["crm"])
    await at.add(f"{receiver.url}/syncs", "job.done", kinds=["user-sync"])
    await at.people_left(["a"], app="hr")
    await at.people_left(["b"])
    jobs = [message(1), message(2).model_copy(update={"sender": "crm"})]
    drafts = await at.fleet.enqueue(*jobs)
    await at.fleet.done(drafts)

    async def all_arrived() -> bool:
        return len(receiver.taken) >= 4 and not await at.under_way()

    await eventually(all_arrived)
    arrived = {
        (each.path.removeprefix("/hook/"), data.get("userid") or data["id"])
        for each in receiver.taken
        for data in [each.document["data"]]
    }
    assert arrived == {("hr", "a"), ("crm", "a"), ("crm", "b"), ("crm", drafts[1].id)}


async def test_an_hours_outage_loses_nothing(at: Office) -> None:
    async with a_receiver() as gone:
        port = int(gone.url.split(":")[2].partition("/")[0])
    await at.add(f"http://127.0.0.1:{port}/hook")
    many = either(100, 300)
    ids = await at.people_left(people(many))
    await asyncio.sleep(3)
    attempts = sum(row["attempts"] for row in await all_of(at.database, DeliveryRow))
    # Five failures open the breaker; then one at a time tries, and the rest spends no attempt.
    assert NEEDED <= attempts < 40
    assert await at.under_way() == many
    async with a_receiver(port) as receiver:
        await at.arrived(receiver, ids)
        assert receiver.most <= PLACES


async def test_a_slow_receiver_gets_all_later(office: OpenOffice, receiver: Receiver) -> None:
    at = await office(call_timeout=0.3)
    await at.add(receiver.url)
    receiver.behaves = hanging
    ids = await at.people_left(people(10))

    await eventually(lambda: len(receiver.requests) >= 6)
    assert receiver.most <= PLACES
    receiver.behaves = None
    await at.arrived(receiver, ids)


async def test_ids_are_stable_under_a_flapping_receiver(at: Office, receiver: Receiver) -> None:
    issued = await at.add(receiver.url)
    dice = random.Random(3)

    async def flaps(request: web.Request) -> web.StreamResponse:
        if dice.random() < 0.5:
            return web.Response(status=dice.choice([500, 503, 404]), text="x" * 50_000)
        return web.Response(status=dice.choice([200, 202, 204]))

    receiver.behaves = flaps
    ids = await at.people_left(people(either(40, 100)))
    await at.arrived(receiver, ids)
    assert set(receiver.ids) == set(ids)
    assert receiver.most <= PLACES
    bodies = {call.id: call.body for call in receiver.requests}
    for call in receiver.requests:
        assert call.body == bodies[call.id]
        verified(call, issued.secret)


@pytest.mark.parametrize(("status", "reason"), [(410, "410"), (500, "accepted nothing since")])
async def test_a_disabled_endpoint_loses_nothing(
    at: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    """It is disabled at once by a 410, and else once it has failed for days."""
    # Longer than a busy machine takes until it has tried each of them.
    monkeypatch.setattr(endpoints, "GIVE_UP", timedelta(seconds=2))
    endpoint = (await at.add(receiver.url)).id
    receiver.behaves = answering(status)
    ids = await at.people_left(people(20))

    await at.disabled(endpoint)
    assert status != 410 or len(receiver.requests) <= PLACES
    ids += await at.people_left(["later"])
    assert reason in (await at.store.get(endpoint)).reason
    with pytest.raises(EndpointConflict, match=reason):
        await at.store.pause(endpoint)
    receiver.behaves = None
    await at.store.resume(endpoint)
    await at.arrived(receiver, ids)


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_time_in_which_an_endpoint_gets_nothing_is_no_failure(
    at: Office, receiver: Receiver, state: str
) -> None:
    """Each notice failed long before; after the resumption each fails once more, then it is accepted."""
    endpoint = (await at.add(receiver.url)).id
    receiver.behaves = answering(500)
    ids = await at.people_left(people(4))

    await eventually(lambda: len({request.id for request in receiver.requests}) == 4)
    if state == "paused":
        await at.store.pause(endpoint)
    failed_at = datetime.now(UTC) - 2 * endpoints.GIVE_UP
    await change(at.database, DeliveryRow, failed_at=failed_at)
    await change(at.database, EndpointRow, failing_since=failed_at, enabled_at=failed_at)
    if state == "disabled":
        await at.disabled(endpoint)
    failed = set[str]()

    async def once(request: web.Request) -> web.StreamResponse:
        id_ = request.headers["webhook-id"]
        status = 503 if id_ not in failed and id_ in ids else 204
        failed.add(id_)
        return web.Response(status=status)

    receiver.behaves = once
    await at.store.resume(endpoint)
    await at.arrived(receiver, [*ids, *await at.people_left(["later"])])


async def test_a_notice_refused_for_days_is_given_up_while_others_are_accepted(
    at: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "GIVE_UP", timedelta(seconds=0.4))
    issued = await at.add(receiver.url)

    async def refuses_one(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400 if b"bad" in await request.read() else 204)

    receiver.behaves = refuses_one
    (bad,) = await at.people_left(["bad"])

    async def given_up() -> bool:
        await at.people_left(["good"])
        return bool(await count(at.database, DeliveryRow, DeliveryRow.state == "dead"))

    await eventually(given_up)
    assert (await at.store.get(issued.id)).state == "enabled"
    receiver.behaves = None
    await at.store.resume(issued.id, ResumeRequest(since=datetime.now(UTC) - timedelta(minutes=5)))
    await at.arrived(receiver, [bad])


async def test_retry_after_is_respected(at: Office, receiver: Receiver) -> None:
    issued = await at.add(receiver.url)
    receiver.behaves = answering(429, headers={"Retry-After": "3600"})
    await at.people_left(people(9))

    async def retry_at() -> datetime | None:
        return (await at.store.get(issued.id)).health.retry_at

    await eventually(retry_at)
    waits = (await retry_at() or datetime.now(UTC)) - datetime.now(UTC)
    assert timedelta(minutes=59) < waits <= timedelta(hours=1)
    assert len(receiver.requests) <= PLACES


async def test_a_paused_endpoint_gets_all_later(at: Office, receiver: Receiver) -> None:
    endpoint = (await at.add(receiver.url)).id
    assert (await at.store.pause(endpoint)).state == "paused"

    async def recorded() -> bool:
        return (await at.store.get(endpoint)).health.backlog == 3

    kept = await at.people_left(people(3))
    await eventually(recorded)
    await asyncio.sleep(0.2)
    assert receiver.requests == []
    await at.store.resume(endpoint)
    await at.arrived(receiver, kept)


async def test_a_new_endpoint_gets_nothing_from_before(at: Office, receiver: Receiver) -> None:
    await at.add(receiver.url)
    past = await at.people_left(people(3))
    await at.arrived(receiver, past)
    async with a_receiver() as other:
        await at.add(other.url)
        ids = await at.people_left(["now"])
        await at.arrived(other, ids)
        assert set(other.ids) == set(ids)


async def test_a_replay_sends_the_same_ids_once_more(at: Office, receiver: Receiver) -> None:
    issued = await at.add(receiver.url)
    before = await at.people_left(people(2))
    await at.arrived(receiver, before)
    since = datetime.now(UTC)
    await asyncio.sleep(0.05)
    after = await at.people_left(people(3))
    await at.arrived(receiver, after)
    for round_ in (2, 3):
        assert (await at.store.resume(issued.id, ResumeRequest(since=since))).notices == 3

        async def again(times: int = round_) -> bool:
            return all(receiver.ids[notice] == times for notice in after)

        await eventually(again)
    assert all(receiver.ids[notice] == 1 for notice in before)
    for span, notices in (
        (ResumeRequest(since=datetime.now(UTC)), 0),
        (ResumeRequest(since=since, until=since), 0),
        (ResumeRequest(since=since, until=datetime.now(UTC)), 3),
        (ResumeRequest(until=since), 2),
    ):
        assert (await at.store.resume(issued.id, span)).notices == notices
    with pytest.raises(EndpointConflict, match="some of these"):
        await at.store.resume(issued.id, ResumeRequest(numbers=[12345]))
    latest, *_ = await at.store.deliveries(issued.id, limit=9)
    assert (
        await at.store.resume(issued.id, ResumeRequest(numbers=[latest.number] * 2))
    ).notices == 1


async def test_while_a_secret_is_rotated_both_sign(at: Office, receiver: Receiver) -> None:
    first = await at.add(receiver.url)
    endpoint = first.id
    second = await at.store.rotate(endpoint, RotationRequest(overlap="1h"))
    assert second.secret != first.secret
    await at.arrived(receiver, await at.people_left(["a"]))
    for issued in (first, second):
        verified(receiver.requests[-1], issued.secret)
    again = await at.store.rotate(endpoint, RotationRequest(overlap="1h"))
    await at.arrived(receiver, await at.people_left(["c"]))
    for issued in (first, second, again):
        verified(receiver.requests[-1], issued.secret)
    third = await at.store.rotate(endpoint, RotationRequest(overlap="0s"))
    await asyncio.sleep(0.2)
    await at.arrived(receiver, await at.people_left(["b"]))
    verified(receiver.requests[-1], third.secret)
    for issued in (first, second):
        with pytest.raises(WebhookVerificationError):
            verified(receiver.requests[-1], issued.secret)


async def test_no_secret_is_in_the_database(at: Office, receiver: Receiver) -> None:
    issued = await at.add(receiver.url)
    path = at.resources.settings.database.removeprefix("sqlite:///")
    files = [Path(path), Path(f"{path}-wal")]
    content = b"".join([await asyncio.to_thread(file.read_bytes) for file in files])
    assert issued.id.encode() in content
    assert issued.secret.removeprefix("whsec_").rstrip("=").encode() not in content
    assert issued.secret not in repr(issued)


async def test_a_removed_endpoint_gets_nothing_more(at: Office, receiver: Receiver) -> None:
    issued = await at.add(receiver.url)
    receiver.behaves = answering(500)
    await at.people_left(people(20))

    await eventually(lambda: len(receiver.requests) >= 4)
    await at.store.remove(issued.id)
    for ask in (at.store.get, at.store.pause, at.store.resume, at.store.remove):
        with pytest.raises(EndpointNotFound):
            await ask(issued.id)
    assert await at.under_way() == 0
    receiver.behaves = None
    await at.add(f"{receiver.url}/other")
    known = len(receiver.requests)
    await at.arrived(receiver, await at.people_left(["ann"]))
    # What was under way may have been delivered.
    assert len(receiver.requests) <= known + PLACES + 1


async def test_a_test_reports_its_result_at_once(at: Office, receiver: Receiver) -> None:
    issued = await at.add(receiver.url, "job.dead")
    endpoint = issued.id
    result = await at.store.test(endpoint, within=20)
    assert (result.accepted, result.status) == (True, 204)
    assert verified(receiver.taken[0], issued.secret)["type"] == "webhook.test"
    receiver.behaves = answering(500)
    await at.store.pause(endpoint)
    result = await at.store.test(endpoint, within=20)
    assert (result.accepted, result.code) == (False, "http_500")
    assert len(receiver.requests) == 2


async def test_a_test_that_is_accepted_closes_the_breaker(
    at: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(endpoints, pause, timedelta(hours=1))
    endpoint = (await at.add(receiver.url)).id
    receiver.behaves = answering(500)
    ids = await at.people_left(people(NEEDED + 5))

    async def is_open() -> bool:
        return (await all_of(at.database, EndpointRow))[0]["breaker"] > 0

    await eventually(is_open)
    assert not (await at.store.test(endpoint, within=20)).accepted
    assert await is_open()
    receiver.requests.clear()
    receiver.behaves = None
    assert (await at.store.test(endpoint, within=20)).accepted
    assert (await at.store.get(endpoint)).failing_since is None
    await at.arrived(receiver, ids)


async def test_a_celery_application_needs_no_http(at: Office, redis: Redis) -> None:
    issued = await at.add("celery://crm/crm.tasks.on_notice")
    (notice,) = await at.people_left(["ann"])

    async def published() -> bool:
        return await redis.llen("crm") == 1

    await eventually(published)
    envelope: Any = json.loads(await redis.lpop("crm"))  # type: ignore[arg-type]
    arguments, named, _ = json.loads(base64.b64decode(envelope["body"]))
    assert envelope["headers"]["task"] == "crm.tasks.on_notice"
    assert "ann" not in json.dumps(envelope["headers"])
    assert arguments == []
    assert named["webhook_id"] == notice
    assert named["document"]["type"] == "directory.user.left"
    assert named["document"]["data"]["userid"] == "ann"
    assert (await at.store.get(issued.id)).health.last_failure == ""
    # A worker that consumes whatever its application knows must not take this queue for its own.
    assert "crm" not in at.fleet.wakeups._celery.amqp.queues


async def test_endpoints_are_limited(at: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST", 2)
    issued = [await at.add(f"https://crm.example.com/{number}") for number in range(2)]
    with pytest.raises(ContractError, match="2 endpoints already"):
        await at.add("https://crm.example.com/")
    await at.store.remove(issued[0].id)
    await at.add("https://crm.example.com/")


async def test_old_notices_go_and_endpoints_that_missed_them_are_logged(
    at: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "PURGE", 0.1)
    issued = await at.add(receiver.url)
    early = await at.people_left(people(3))
    await at.arrived(receiver, early)
    await at.store.pause(issued.id)
    await at.people_left(people(4))

    async def are_kept(expected: int) -> bool:
        return await count(at.database, NoticeRow) == expected

    await eventually(lambda: are_kept(7))
    await change(at.database, NoticeRow, recorded_at=datetime.now(UTC) - timedelta(days=8))
    await eventually(lambda: are_kept(0))
    await at.store.resume(issued.id)
    later = await at.people_left(["later"])
    await at.arrived(receiver, later)
    assert set(receiver.ids) == {*early, *later}


async def test_skipped_notices_can_be_replayed(at: Office, receiver: Receiver) -> None:
    endpoint = (await at.add(receiver.url)).id
    await at.store.pause(endpoint)
    skipped = await at.people_left(people(5))
    await at.store.resume(endpoint, ResumeRequest(skip=True))
    await at.arrived(receiver, await at.people_left(["later"]))
    assert not set(skipped) & set(receiver.ids)
    since = datetime.now(UTC) - timedelta(hours=1)
    assert (await at.store.resume(endpoint, ResumeRequest(since=since))).notices == 6
    await at.arrived(receiver, skipped)
    # An endpoint that is newer gets what others were to get.
    newer = (await at.add(f"{receiver.url}/newer")).id
    assert (await at.store.resume(newer, ResumeRequest(since=since))).notices == 6
    await at.arrived(receiver, [])
    assert sum(request.path == "/hook/newer" for request in receiver.taken) == 6


async def test_a_new_endpoint_gets_the_next_commit(at: Office, receiver: Receiver) -> None:
    ids: list[str] = []
    for number in range(either(10, 30)):
        app = f"app{number}"
        await at.add(f"{receiver.url}/{number}", apps=[app])
        ids += await at.people_left(["ann"], app=app)
    await at.arrived(receiver, ids)


async def test_redis_may_be_emptied(at: Office, receiver: Receiver, redis: Redis) -> None:
    await at.add(receiver.url)
    receiver.behaves = answering(500)
    ids = await at.people_left(people(30))

    await eventually(lambda: receiver.requests)
    async for key in redis.scan_iter("dingrelay:*"):
        await redis.delete(key)
    receiver.behaves = None
    await at.arrived(receiver, ids)


async def test_endpoints_that_hang_delay_no_other(office: OpenOffice, receiver: Receiver) -> None:
    at = await office(call_timeout=200)
    free = asyncio.Event()

    async def hangs(_: web.Request) -> web.StreamResponse:
        await free.wait()
        return web.Response(status=204)

    receiver.behaves = hangs
    hanging_ones = either(10, 40)
    for number in range(hanging_ones):
        await at.add(f"{receiver.url}/{number}")
    early = await at.people_left(people(10))

    async def stuck() -> bool:
        return receiver.under_way == PLACES * hanging_ones

    await eventually(stuck)
    async with a_receiver() as sound:
        await at.add(sound.url)
        ids = await at.people_left(people(20))

        await eventually(lambda: set(ids) <= set(sound.ids))
    assert await stuck()
    assert max(Counter(request.path for request in receiver.requests).values()) == PLACES
    free.set()
    await at.arrived(receiver, [*early, *ids])


async def test_a_worker_without_the_key_of_a_secret_loses_no_notice(
    at: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "UNSIGNED", 0.1)
    issued = await at.add(receiver.url)
    real = secret.derive

    def without_the_key(*_: object) -> bytes:
        raise SettingsError("DINGRELAY_WEBHOOK_KEY: the key is not there")

    monkeypatch.setattr(secret, "derive", without_the_key)
    ids = await at.people_left(people(3))
    result = await at.store.test(issued.id, within=20)
    assert (result.accepted, result.code) == (False, "settings")
    assert receiver.requests == []
    monkeypatch.setattr(secret, "derive", real)
    await at.arrived(receiver, ids)


async def test_without_endpoints_nothing_is_kept(at: Office, redis: Redis) -> None:
    await at.people_left(people(3))
    await at.fleet.done(await at.fleet.enqueue(*map(message, range(5))))

    async def drained() -> bool:
        return not await count(at.database, NoticeRow) and await redis.xlen(keys.ENDINGS) <= 1

    await eventually(drained)
