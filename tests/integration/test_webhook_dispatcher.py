"""Each point at which the leader of webhooks can die, on every database."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from dingrelay_chaos.database import Database as SQLiteFile
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.states import State
from dingrelay_tasks import RobotMessage
from dingrelay_workers.database.database import Database
from dingrelay_workers.history.writer import Writer
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.webhooks import deliveries, endpoints, secret
from dingrelay_workers.webhooks import dispatcher as dispatchers
from dingrelay_workers.webhooks.dispatcher import WebhookDispatcher
from dingrelay_workers.webhooks.http import Receipt
from dingrelay_workers.webhooks.secret import Generation
from support.examples import either
from support.jobs import claimed, enqueue, queued
from support.rows import count
from support.webhooks import subscribe

AWAY = OperationalError("", {}, Exception())
ENDPOINTS = ("drw_aaaaaaaaaaaa", "drw_bbbbbbbbbbbb")


class Fleet:
    """Leaders on one database and Valkey, before endpoints that count what they get."""

    def __init__(self, redis: Redis, database: Database, settings: Settings) -> None:
        self.redis = redis
        self.database = database
        self.settings = settings
        self.records = Records(redis, settings)
        self.got: Counter[tuple[str, str]] = Counter()
        self.later = timedelta()
        self._dispatchers: list[Any] = []

    async def subscribe(self, *names: str, **fields: Any) -> None:
        made_from = secret.fingerprint(self.settings.webhook_keys[0])
        made = Generation(number=1, made_from=made_from).model_dump(mode="json")
        for name in names or ENDPOINTS:
            url = f"https://example.com/{name}"
            await subscribe(self.database, id=name, url=url, secrets=[made], **fields)

    async def dispatcher(self) -> Any:
        """One that has just taken the lease from whichever had it."""
        publisher: Any = None
        dispatcher: Any = WebhookDispatcher(
            self.redis,
            publisher,
            self.database,
            self.settings,
            now=lambda: datetime.now(UTC) + self.later,
        )

        async def post(url: str, _: bytes, headers: Mapping[str, str]) -> Receipt:
            await asyncio.sleep(0)
            self.got[url.rpartition("/")[2], headers["webhook-id"]] += 1
            return Receipt("taken", "taken", "", 204)

        dispatcher._deliverer._sender.post = post
        dispatcher.begin(uuid.uuid4().hex)
        self._dispatchers.append(dispatcher)
        return dispatcher

    async def write(self, many: int) -> None:
        left = {"type": "directory.user.left", "app": "default", "at": datetime.now(UTC)}
        notices = [Notice(**left, data={"n": number}) for number in range(many)]
        async with self.database.write("tests") as connection:
            await outbox.write(connection, notices)

    async def end_jobs(self, many: int) -> None:
        for _ in range(many):
            draft = await queued(self.redis)
            await self.records.settle(await claimed(self.records, draft), State.DONE, usage=Usage())

    async def locked(self) -> int:
        return await count(self.database, DeliveryRow, DeliveryRow.locked_until.is_not(None))

    async def finish(self, dispatcher: Any) -> None:
        """Return once everything is delivered."""
        quiet = 0
        for _ in range(400):
            await dispatcher.tick()
            await asyncio.sleep(0.005)
            left = await count(self.database, DeliveryRow, DeliveryRow.state == "pending")
            quiet = 0 if left or (await dispatcher._endings.read(1)).last else quiet + 1
            if quiet == 3:
                return
        raise AssertionError("not everything was delivered")

    async def close(self) -> None:
        for dispatcher in self._dispatchers:
            await dispatcher._deliverer.close(0)


@pytest.fixture
async def fleet(redis: Redis, settings: Settings, database: Database) -> AsyncIterator[Fleet]:
    fleet = Fleet(redis, database, settings)
    yield fleet
    await fleet.close()


async def test_notices_are_delivered_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    page, many = either((50, 70), (500, 700))
    monkeypatch.setattr(dispatchers, "AT_ONCE", page)
    await fleet.subscribe()
    await fleet.write(many)
    await fleet.end_jobs(3)
    await fleet.finish(await fleet.dispatcher())
    assert await count(fleet.database, NoticeRow) == many + 3
    assert len(fleet.got) == 2 * (many + 3)
    assert set(fleet.got.values()) == {1}


async def test_an_endpoint_of_a_group_gets_the_ends_of_its_messages(fleet: Fleet) -> None:
    group, robots = ENDPOINTS
    await fleet.subscribe(group, apps=["group:oncall"])
    await fleet.subscribe(robots, apps=["robots"])
    jobs: dict[str, str] = {}
    for name in ("oncall", "other"):
        text = {"msgtype": "text", "text": {"content": name}}
        message = RobotMessage.parse({"to": {"group": name}, "message": text})
        draft = record.draft(message)
        await enqueue(fleet.redis, draft)
        await fleet.records.settle(await claimed(fleet.records, draft), State.DONE, usage=Usage())
        jobs[name] = draft.id
    dispatcher = await fleet.dispatcher()
    await fleet.finish(dispatcher)
    got = Counter(endpoint for endpoint, _ in fleet.got)
    assert got == {group: 1, robots: 2}
    async with fleet.database.write("tests") as connection:
        (endpoint,) = (await endpoints.some(connection, [group])).values()
        since = datetime.now(UTC) - timedelta(hours=1)
        replayed, _ = await deliveries.replay(connection, endpoint, 0, [], since)
    assert replayed == 1


async def test_one_turn_is_bounded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatchers, "AT_ONCE", 20)
    await fleet.subscribe(*(f"drw_{number:012}" for number in range(20)))
    await fleet.write(1)
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    assert await fleet.locked() == 20
    await fleet.finish(dispatcher)
    assert len(fleet.got) == 20


async def test_a_dead_leaders_deliveries_are_sent_again(fleet: Fleet) -> None:
    await fleet.subscribe()
    await fleet.write(2)
    dead = await fleet.dispatcher()
    await dead.tick()
    dead._deliverer.outcomes = []  # what it would have written down
    await asyncio.sleep(0.02)
    assert set(fleet.got.values()) == {1}
    new = await fleet.dispatcher()
    await new.tick()
    await asyncio.sleep(0.02)
    assert set(fleet.got.values()) == {1}
    fleet.later = timedelta(minutes=1)
    await fleet.finish(new)
    assert len(fleet.got) == 4
    assert set(fleet.got.values()) == {2}


async def test_a_worker_that_stops_leaves_no_claim(fleet: Fleet) -> None:
    await fleet.subscribe()
    await fleet.write(20)
    stopping = await fleet.dispatcher()
    free = asyncio.Event()

    async def hangs(*_: Any) -> Receipt:
        await free.wait()
        raise AssertionError

    stopping._deliverer._sender.post = hangs
    await stopping.tick()
    assert await fleet.locked() > 0
    await stopping.close()
    assert await fleet.locked() == 0
    await fleet.finish(await fleet.dispatcher())
    assert len(fleet.got) == 40


async def test_without_tables_it_passes(redis: Redis, settings: Settings) -> None:
    database = Database(settings.database)
    fleet = Fleet(redis, database, settings)
    await fleet.end_jobs(3)
    dispatcher = await fleet.dispatcher()
    assert await dispatcher.tick() is None
    assert await redis.xlen(keys.ENDINGS) <= 1
    await database.dispose()


async def test_a_new_leader_without_sql(redis: Redis, settings: Settings, tmp_path: Path) -> None:
    file = SQLiteFile(tmp_path)
    file.create()
    database = Database(file.url)
    fleet = Fleet(redis, database, settings)
    await fleet.subscribe("drw_aaaaaaaaaaaa")
    await database.dispose()
    file.take_away()
    await fleet.end_jobs(3)
    with pytest.raises(OperationalError):
        await (await fleet.dispatcher()).tick()
    file.bring_back()
    await fleet.finish(await fleet.dispatcher())
    assert len(fleet.got) == 3
    await fleet.close()
    await database.dispose()


async def test_jobs_that_ended_before_the_first_look(fleet: Fleet) -> None:
    """On a new or emptied Redis, while another worker keeps the history."""
    await fleet.subscribe("drw_aaaaaaaaaaaa")
    await fleet.end_jobs(5)
    history: Any = Writer(fleet.redis, fleet.database, fleet.settings)
    history._ready = True
    await history.tick()
    await fleet.end_jobs(1)
    await history.tick()
    await fleet.finish(await fleet.dispatcher())
    assert len(fleet.got) == 6
    await history.tick()


async def test_only_the_leader_shows_the_health_of_endpoints(fleet: Fleet) -> None:
    def shown() -> set[str]:
        families = [each for each in REGISTRY.collect() if "webhook_deliveries" in each.name]
        return {sample.labels["endpoint"] for each in families for sample in each.samples}

    first, second = ENDPOINTS
    await fleet.subscribe(first)
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    assert first in shown()
    dispatcher.begin("")
    assert first not in shown()
    dispatcher.begin("again")
    await dispatcher.tick()
    async with fleet.database.write("tests") as connection:
        await connection.execute(delete(EndpointRow))
    await fleet.subscribe(second)
    dispatcher.begin("once more")
    await dispatcher.tick()
    assert first not in shown()
