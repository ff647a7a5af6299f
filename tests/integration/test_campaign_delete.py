"""A campaign that has ended goes with all its rows, on each database, whichever process dies."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select

from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_producers.store import keys
from dingrelay_tasks.outcomes import CampaignDeleted
from dingrelay_workers.campaigns import dispatcher as dispatching
from dingrelay_workers.campaigns import personal_data as erasures
from dingrelay_workers.campaigns import removal
from dingrelay_workers.campaigns.calls import CampaignCalls
from dingrelay_workers.campaigns.dispatcher import CampaignTick, Dispatcher
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    IndexRow,
    OutcomeKind,
    OutcomeRow,
    State,
)
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.store.records import Records
from dingrelay_workers.subjects import Erasing, Stores
from support import campaigns
from support.databases import on_sqlite, prepare
from support.rows import change, count, put

TABLES = (CampaignRow, ChunkRow, OutcomeRow, IndexRow)


async def ended(database: Database, *, people: int = 8, **fields: Any) -> str:
    """A campaign that is done: each person has an outcome, each chunk an entry in the index."""
    campaign = await campaigns.put(
        database, people=people, state=State.DONE, index_bits=0, **fields
    )
    await change(database, ChunkRow, state=ChunkState.SETTLED)
    outcome = {"campaign": campaign, "outcome": OutcomeKind.DUPLICATE}
    left_out = [{**outcome, "userid": f"u{n + 1}", "chunk": n // 2} for n in range(people)]
    await put(database, OutcomeRow, *left_out)
    await put(
        database, IndexRow, *({"campaign": campaign, "bucket": n} for n in range(people // 2))
    )
    return campaign


async def counts(database: Database) -> list[int]:
    return [await count(database, table) for table in TABLES]


def dispatcher(redis: Redis, database: Database) -> Dispatcher:
    nothing: Any = None
    return Dispatcher(
        Records(redis, Settings.load(env="test", redis_url="redis://127.0.0.1:1/0")),
        nothing,
        database,
        settings=CampaignSettings(),
        users_per_call=lambda _: 100,
        now=lambda: datetime.now(UTC),
    )


async def test_all_of_it_goes_and_nothing_of_another(database: Database) -> None:
    gone, stays = await ended(database), await ended(database)
    progress: list[int] = []
    hidden = await campaigns.hide(database, gone)
    assert (hidden.name, hidden.recipients) == ("news", 8)
    await removal.remove(database, gone, progress.append)
    assert await counts(database) == [1, 4, 8, 4]
    assert (await campaigns.read(database, stays)).state == State.DONE
    with pytest.raises(CampaignNotFound):
        await campaigns.hide(database, gone)
    with pytest.raises(CampaignDeleted):
        await CampaignCalls(database).recallable(gone, [0])


@on_sqlite
@pytest.mark.parametrize("days", [0, 9])
async def test_its_list_of_people_goes_at_once(database: Database, days: int) -> None:
    """Its row stays for a day, since the campaigns of a day count as one."""
    now = datetime.now(UTC)
    fields: dict[str, Any] = {"content": {"pasted": "u1"}, "file": b"userid", "file_name": "list"}
    fields |= {"named": {"absent": ["u3"]}, "admitted_at": now}
    campaign = await ended(database, ended_at=now - timedelta(days=days), **fields)
    if days:
        await removal.expire(database, now - timedelta(days=8))
    else:
        await campaigns.hide(database, campaign)
    row = await campaigns.read(database, campaign)
    assert row.state == State.DELETING
    assert (row.content, row.file, row.file_name, row.named) == (None, None, "", None)


async def test_a_campaign_that_has_not_ended_stays(database: Database) -> None:
    for state, chunk, error in (
        (State.DRAFT, ChunkState.PENDING, "is ready: cancel it first, or wait for its end"),
        (State.RUNNING, ChunkState.PENDING, "is running: cancel it first"),
        (State.PAUSED, ChunkState.PENDING, "is paused: cancel it first"),
        (State.CANCELLED, ChunkState.QUEUED, "has calls under way: delete it once they have ended"),
    ):
        campaign = await campaigns.put(database, state=state)
        await change(database, ChunkRow, ChunkRow.campaign == campaign, state=chunk)
        with pytest.raises(CampaignConflict, match=error):
            await campaigns.hide(database, campaign)
        assert (await campaigns.read(database, campaign)).state == state


async def test_a_campaign_that_is_being_created_cannot_be_deleted(database: Database) -> None:
    campaign = await campaigns.put(database, state=State.CREATING)
    with pytest.raises(CampaignNotFound):
        await campaigns.hide(database, campaign)


@pytest.mark.parametrize("again", [True, False])
async def test_a_deletion_that_was_broken_off_is_finished(
    settings: Settings,
    database: Database,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    *,
    again: bool,
) -> None:
    monkeypatch.setattr(removal, "PAGE", 3)
    monkeypatch.setattr(removal, "HELD", 0.0)
    campaign, other = await ended(database), await campaigns.put(database, state=State.CREATING)

    def die(rows: int) -> None:
        if rows >= 6:
            raise asyncio.CancelledError

    await campaigns.hide(database, campaign)
    with pytest.raises(asyncio.CancelledError):
        await removal.remove(database, campaign, die)
    assert await counts(database) == [2, 2, 5, 4], "the chunks, and some of the outcomes"
    assert campaign not in [row.id for row in await CampaignStore(database).list(limit=9)]
    with pytest.raises(CampaignNotFound):
        await campaigns.move(settings, database, campaign, "cancel")
    # What is left of it may name a person.
    now = datetime.now(UTC)
    erasing = Erasing("u7", None, since=now + timedelta(hours=1), tombstone="x", now=now)
    await erasures.erase(Stores(database, redis), erasing)
    assert [left.id for left in erasing.left] == [campaign]
    if again:
        await campaigns.hide(database, campaign)
        await removal.remove(database, campaign)
    else:
        leads = dispatcher(redis, database)
        while await leads.tick() is not None:
            pass
    assert await counts(database) == [1, 2, 0, 0], "what is being made is left alone"
    assert (await campaigns.read(database, other)).state == State.CREATING


async def test_a_deletion_is_looked_for_now_and_then_beside_a_running_campaign(
    database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, carried_on = await ended(database), await campaigns.put(database, state=State.PAUSED)
    leads = dispatcher(redis, database)
    tick = CampaignTick(await campaigns.read(database, carried_on), {}, goes=False)
    looks, leftovers = list[None](), removal.leftovers

    async def read() -> list[CampaignTick]:
        return [tick]

    async def count_looks(*arguments: Any) -> list[str]:
        looks.append(None)
        return await leftovers(*arguments)

    monkeypatch.setattr(leads, "_read", read)
    monkeypatch.setattr(removal, "leftovers", count_looks)
    monkeypatch.setattr(dispatching, "REMOVE_EVERY", 3600.0)
    await leads.tick()
    await leads.tick()
    assert len(looks) == 1
    await campaigns.hide(database, deleted)
    monkeypatch.setattr(dispatching, "REMOVE_EVERY", 0.0)
    leads.begin("")
    while (await counts(database))[0] > 1:
        await leads.tick()


async def test_a_slow_dispatcher_does_not_mind(
    database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await campaigns.put(database, people=2, settled=1)
    leads = dispatcher(redis, database)
    await redis.set(keys.DISPATCHER, "me", px=60_000)
    leads.begin("me")
    real = leads._share  # pyright: ignore[reportPrivateUsage]

    def start_another(turns: Any) -> None:
        real(turns)
        turns[0].stop = "it has something to write"

    monkeypatch.setattr(leads, "_share", start_another)
    turn = leads._read  # pyright: ignore[reportPrivateUsage]

    async def read() -> Any:
        turns = await turn()
        await change(database, CampaignRow, state=State.DONE)
        await change(database, ChunkRow, state=ChunkState.SETTLED)
        await campaigns.hide(database, campaign)
        await removal.remove(database, campaign)
        return turns

    monkeypatch.setattr(leads, "_read", read)
    await leads.tick()
    assert await counts(database) == [0, 0, 0, 0]


async def test_writers_are_not_blocked(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(sqlite_url)
    monkeypatch.setattr(removal, "PAGE", 20)
    monkeypatch.setattr(removal, "HELD", 0.0)
    database, other = Database(sqlite_url), Database(sqlite_url)
    campaign = await ended(database, people=80)
    await campaigns.hide(database, campaign)
    seen: set[int] = set()
    removing = asyncio.create_task(removal.remove(database, campaign))
    while not removing.done():
        async with other.write("another") as connection:
            seen.add(await connection.scalar(select(func.count(OutcomeRow.userid))) or 0)
    await removing
    assert len(seen - {0, 80}) >= 2
    await database.dispose()
    await other.dispose()


async def test_a_campaign_that_is_started_just_now_stays(database: Database) -> None:
    now = datetime.now(UTC)
    old = dict.fromkeys(("created_at", "updated_at"), now - timedelta(days=9))
    campaign = await campaigns.put(database, people=2, state=State.DRAFT, **old)
    async with database.write(f"campaign {campaign}") as connection:
        is_it = CampaignRow.id == campaign
        await change_rows(connection, CampaignRow, is_it, state=State.RUNNING, started_at=now)
        expiring = asyncio.create_task(removal.expire(database, now - timedelta(days=8)))
        await asyncio.sleep(0.5)  # it has found the draft, and waits for its row
    assert await expiring == 0
    assert await count(database, CampaignRow, CampaignRow.state == State.RUNNING) == 1
