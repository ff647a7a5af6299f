"""Each point at which whoever passes notices on can die, on every database."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisAway
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import OperationalError

from dingrelay_chaos.database import Database as SQLiteFile
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.states import State
from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.endings import Ending
from dingrelay_workers.outbox.models import EndpointRow, OutboxRow
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.webhooks import dispatcher as dispatchers
from dingrelay_workers.webhooks import notices, releases
from dingrelay_workers.webhooks.dispatcher import Dispatcher
from dingrelay_workers.webhooks.ended_jobs import notices_of
from dingrelay_workers.webhooks.models import DeliveryRow, NoticeRow
from jobs import a_draft, claimed, enqueue
from subscriptions import subscribe
from thorough import either
from wakeups import received

AWAY = OperationalError("", {}, Exception())


class Fleet:
    """Dispatchers on one database and Valkey, and the worker that runs what they publish."""

    def __init__(self, redis: Redis, database: Database, settings: Settings) -> None:
        self.redis = redis
        self.database = database
        self.settings = settings
        self.records = Records(redis, settings)
        self.published: list[Wakeup] = []
        self.deliveries: Counter[tuple[str, int]] = Counter()

    def publish(self, wakeups: Iterable[Wakeup]) -> int:
        before = len(self.published)
        self.published += wakeups
        return len(self.published) - before

    async def dispatcher(self) -> Dispatcher:
        """One that has just taken the lease from whoever had it."""
        holder = uuid.uuid4().hex
        await self.redis.set(keys.WEBHOOK_LEADER, holder, px=60_000)
        publisher: Any = self
        dispatcher = Dispatcher(
            self.records,
            publisher,
            self.database,
            self.settings,
            now=lambda: datetime.now(UTC),
        )
        dispatcher.begin(holder)
        return dispatcher

    async def run(self, state: State = State.DONE) -> None:
        """Run every published job to its end."""
        wakeups, self.published = self.published, []
        for wakeup in wakeups:
            claim = (await self.records.claim(received(wakeup)))[1]
            if claim is None:
                continue
            self.deliveries[claim.payload["endpoint"], claim.payload["notice"]] += 1
            await self.records.settle(claim, state, usage=Usage())

    async def write(self, count: int, *, type_: str = "directory.user.left") -> None:
        async with self.database.write("tests") as connection:
            await outbox.write(
                connection,
                [
                    Notice(type=type_, app="default", at=datetime.now(UTC), data={"n": number})
                    for number in range(count)
                ],
            )

    async def end_jobs(self, count: int) -> None:
        for _ in range(count):
            draft = a_draft()
            await enqueue(self.redis, draft)
            await self.records.settle(await claimed(self.records, draft), State.DONE, usage=Usage())

    async def count(self, table: Any) -> int:
        async with self.database.read() as connection:
            return await connection.scalar(select(func.count()).select_from(table)) or 0

    async def finish(self, dispatcher: Any) -> None:
        """Return once everything was told."""
        quiet = 0
        for _ in range(120):
            await dispatcher.tick()
            await self.run()
            left = await self.count(OutboxRow) + await self.count(DeliveryRow)
            quiet = 0 if left or (await dispatcher._endings.read(1)).last else quiet + 1
            if quiet == 3:
                return
        raise AssertionError("not everything was told")


@pytest.fixture
async def fleet(redis: Redis, valkey_url: str, database: Database) -> Fleet:
    return Fleet(redis, database, Settings.load(env="test", redis_url=valkey_url))


async def test_each_notice_is_delivered_to_each_endpoint_once(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, count = either((50, 70), (500, 700))
    monkeypatch.setattr(dispatchers, "AT_ONCE", page)
    monkeypatch.setattr(releases, "PAGE", page)
    for name in ("a", "b"):
        await subscribe(fleet.database, id=f"drw_{name * 12}")
    await fleet.write(count)
    await fleet.end_jobs(3)
    await fleet.finish(await fleet.dispatcher())
    assert await fleet.count(NoticeRow) == count + 3
    assert len(fleet.deliveries) == 2 * (count + 3)
    assert set(fleet.deliveries.values()) == {1}


async def test_a_notice_of_a_type_of_a_newer_release_holds_nothing_up(fleet: Fleet) -> None:
    await subscribe(fleet.database, id="drw_aaaaaaaaaaaa", types=["*"])
    await fleet.write(3)
    async with fleet.database.write("tests") as connection:
        await connection.execute(
            update(OutboxRow).where(OutboxRow.number == 2).values(type="new.one")
        )
    await fleet.finish(await fleet.dispatcher())
    assert await fleet.count(OutboxRow) == 0
    assert set(fleet.deliveries.values()) == {1}
    async with fleet.database.read() as connection:
        delivered = [await notices.find(connection, number) for _, number in fleet.deliveries]
    types = [notice.type for notice in delivered if notice is not None]
    assert sorted(types) == ["directory.user.left", "directory.user.left", "new.one"]


async def test_jobs_of_an_application_are_notices_however_enqueued(redis: Redis) -> None:
    kinds = (
        "message-send",
        "approval-decide",
        "approval-look",
        "approval-follow",
        "webhook-deliver",
    )
    endings = [
        Ending(id=str(uuid.uuid4()), kind=kind, app="default", sender="", state="done", at=1)
        for kind in kinds
    ]
    written = await notices_of(redis, endings, lambda subject: True)
    assert [notice.kind for notice in written] == [
        "message-send",
        "approval-decide",
        "approval-look",
    ]


async def test_no_more_than_a_window_is_under_way(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "WINDOW", 7)
    await subscribe(fleet.database, id="drw_aaaaaaaaaaaa")
    await fleet.write(20)
    dispatcher = await fleet.dispatcher()
    for _ in range(3):
        await dispatcher.tick()
        assert await fleet.count(DeliveryRow) == 7
    assert len(fleet.published) == 7
    await fleet.finish(dispatcher)
    assert len(fleet.deliveries) == 20


async def test_an_endpoint_that_takes_little_gets_to_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "PAGE", 10)
    monkeypatch.setattr(releases, "SCANNED", 20)
    await subscribe(fleet.database, id="drw_aaaaaaaaaaaa", state="paused")
    await subscribe(fleet.database, id="drw_bbbbbbbbbbbb", types=["directory.user.added"])
    for _ in range(10):
        await fleet.write(9)
    await fleet.write(1, type_="directory.user.added")
    dispatcher = await fleet.dispatcher()
    for _ in range(30):
        await dispatcher.tick()
    await fleet.run()
    assert list(fleet.deliveries) == [("drw_bbbbbbbbbbbb", 91)]


async def test_an_older_leader_changes_nothing(fleet: Fleet) -> None:
    await subscribe(fleet.database, id="drw_aaaaaaaaaaaa")
    await fleet.write(5)
    old = await fleet.dispatcher()
    new = await fleet.dispatcher()
    await old.tick()
    assert fleet.published == []
    await fleet.finish(new)
    assert set(fleet.deliveries.values()) == {1}
    assert len(fleet.deliveries) == 5


async def test_before_the_first_migration_the_stream_is_passed(
    redis: Redis, valkey_url: str, sqlite_url: str
) -> None:
    database = Database(sqlite_url)
    fleet = Fleet(redis, database, Settings.load(env="test", redis_url=valkey_url))
    await fleet.end_jobs(3)
    dispatcher = await fleet.dispatcher()
    assert await dispatcher.tick() is None
    assert await redis.xlen(keys.ENDINGS) <= 1
    await database.dispose()


async def test_what_ends_while_a_new_leader_has_no_database_is_delivered_later(
    redis: Redis, valkey_url: str, tmp_path: Path
) -> None:
    file = SQLiteFile(tmp_path)
    file.create()
    database = Database(file.url)
    fleet = Fleet(redis, database, Settings.load(env="test", redis_url=valkey_url))
    await subscribe(database, id="drw_aaaaaaaaaaaa")
    await database.dispose()
    file.take_away()
    await fleet.end_jobs(3)
    with pytest.raises(OperationalError):
        await (await fleet.dispatcher()).tick()
    file.bring_back()
    await fleet.finish(await fleet.dispatcher())
    assert len(fleet.deliveries) == 3
    await database.dispose()


@pytest.mark.parametrize("seed", range(either(2, 30)))
async def test_every_notice_is_delivered_once_whatever_dies_and_when(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """At each step a leader may die, or lose the answer of what it has just done."""
    dice = random.Random(seed)
    monkeypatch.setattr(dispatchers, "AT_ONCE", 7)
    monkeypatch.setattr(releases, "PAGE", 5)
    monkeypatch.setattr(releases, "WINDOW", 9)
    for name in "ab":
        await subscribe(fleet.database, id=f"drw_{name * 12}")
    expected = 0
    for _ in range(40):
        if expected < 60:
            await fleet.write(2)
            await fleet.end_jobs(1)
            expected += 3
        dispatcher = await fleet.dispatcher()
        _break(dispatcher, dice)
        for _ in range(3):
            try:
                await dispatcher.tick()
            except (RedisAway, OperationalError, asyncio.CancelledError):
                break
        if dice.random() < 0.5:
            await fleet.run()
        if dice.random() < 0.1:
            fleet.published.clear()  # wake-ups that were lost are the scheduler's business
            async for key in fleet.redis.scan_iter(keys.job("*")):
                if await fleet.redis.hget(key, "kind") == b"webhook-deliver":
                    await fleet.redis.delete(key)
    last = await fleet.dispatcher()
    await fleet.finish(last)
    assert await fleet.count(NoticeRow) == expected
    assert len(fleet.deliveries) == 2 * expected
    async with fleet.database.read() as connection:
        positions = set(await connection.scalars(select(EndpointRow.position)))
    assert len(positions) == 1


def _break(dispatcher: Any, dice: random.Random) -> None:
    """Let some step of this leader fail, before or after its effect."""
    target, name, error = dice.choice(
        [
            (dispatcher._queue, "enqueue", RedisAway()),
            (dispatcher._queue, "forget", RedisAway()),
            (dispatcher._endings, "read", RedisAway()),
            (dispatcher._endings, "pass_", RedisAway()),
            (dispatcher._gate, "resume", RedisAway()),
            (dispatcher, "_enqueue", AWAY),
            (dispatcher, "_ended", AWAY),
        ]
    )
    real, calls = getattr(target, name), dice.randint(1, 3)

    async def breaks(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls -= 1
        if calls == 0:
            if dice.random() < 0.5:
                await real(*arguments, **named)
            raise error
        return await real(*arguments, **named)

    setattr(target, name, breaks)


async def test_each_turn_begins_deliveries_however_slow_the_database(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "HELD", -1)
    await subscribe(fleet.database, id="drw_aaaaaaaaaaaa", state="paused")
    for name in ("b", "c"):
        await subscribe(fleet.database, id=f"drw_{name * 12}")
    await fleet.write(3)
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    assert len(fleet.published) == 3
    for _ in range(100):  # chance tells which of the two a turn serves
        await dispatcher.tick()
    assert len(fleet.published) == 2 * 3


async def test_failed_deliveries_take_no_room_from_the_rest(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "WINDOW", 5)
    endpoint = "drw_aaaaaaaaaaaa"
    await subscribe(fleet.database, id=endpoint)
    await fleet.write(8)
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    failing, fleet.published = [wakeup.id for wakeup in fleet.published], []
    assert len(failing) == 5
    await fleet.redis.zadd(keys.webhook_failed(endpoint), dict.fromkeys(failing, 1))
    await fleet.redis.pexpire(keys.webhook_failed(endpoint), 60_000)
    await dispatcher.tick()
    await fleet.run()
    assert sorted(notice for _, notice in fleet.deliveries) == [6, 7, 8]
    for job in failing:
        await fleet.redis.delete(keys.job(job))
    dispatcher.begin(dispatcher.holder)
    await fleet.finish(dispatcher)
    assert len(fleet.deliveries) == 8
    assert await fleet.redis.zcard(keys.webhook_failed(endpoint)) == 0


async def test_only_the_leader_shows_how_endpoints_do(fleet: Fleet) -> None:
    def shown() -> set[str]:
        families = [each for each in REGISTRY.collect() if "webhook_deliveries" in each.name]
        return {sample.labels["endpoint"] for each in families for sample in each.samples}

    endpoint = "drw_aaaaaaaaaaaa"
    await subscribe(fleet.database, id=endpoint)
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    assert endpoint in shown()
    dispatcher.begin("")
    assert endpoint not in shown()
    dispatcher.begin("again")
    await dispatcher.tick()
    async with fleet.database.write("tests") as connection:
        await connection.execute(delete(EndpointRow))
    await subscribe(fleet.database, id="drw_bbbbbbbbbbbb")
    dispatcher.begin("once more")
    await dispatcher.tick()
    assert endpoint not in shown()
