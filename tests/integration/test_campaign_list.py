"""Lists of campaigns, and the campaigns of a person, on each database."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_producers.store.states import CampaignStage
from dingrelay_workers.campaigns import people_index
from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.campaigns.people_index import PeopleIndex, bits_for
from dingrelay_workers.campaigns.report import campaigns_of
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from support import campaigns
from support.rows import put

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(database: Database) -> CampaignStore:
    return CampaignStore(database)


async def test_filters_and_pages_hold_each_once(database: Database, store: CampaignStore) -> None:
    ids = [
        await campaigns.put(
            database,
            app=("default", "hr")[number % 2],
            sender=("crm", "crm", "shop")[number % 3],
            state=State.DRAFT if number < 3 else State.RUNNING,
            # Two of a moment, which a page may part.
            created_at=NOON + timedelta(microseconds=number // 2),
        )
        for number in range(6)
    ]

    async def listed(**chosen: Any) -> list[str]:
        return [row.id for row in await store.list(CampaignFilter(**chosen), limit=100)]

    moments = [row.created_at for row in await store.list(limit=100)]
    assert moments == sorted(moments, reverse=True)
    everything = await listed()
    assert set(everything) == set(ids)
    assert set(await listed(apps=["hr"])) == set(ids[1::2])
    assert await listed(apps=[]) == []
    assert set(await listed(apps=["hr", "default"], sender="shop")) == {ids[2], ids[5]}
    assert set(await listed(state=State.DRAFT, sender="crm")) == {ids[0], ids[1]}

    seen: list[str] = []
    after = None
    while page := await store.list(limit=1, after=after):
        seen.append(page[0].id)
        after = (page[0].created_at, page[0].id)
    assert seen == everything


async def test_a_campaign_is_found_by_name_writer_stage_and_time(
    database: Database, store: CampaignStore
) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    draft, ready, scheduled, running, done = [
        await campaigns.put(database, created_at=NOON + timedelta(days=number), **fields)
        for number, fields in enumerate(
            (
                {"name": "Spring 100% party", "state": State.DRAFT, "chunks": 0},
                {"name": "春节年会", "state": State.DRAFT, "writers": ["u1", '"u%\\']},
                {"name": "spring", "start_at": later},
                {"name": "news", "start_at": NOON, "writers": ["u11"]},
                {"name": "news_2", "state": State.DONE},
            )
        )
    ]

    async def listed(**chosen: Any) -> list[str]:
        return [row.id for row in await store.list(CampaignFilter(**chosen), limit=100)]

    assert await listed(name="SPRING") == [scheduled, draft]
    assert await listed(name="年会") == [ready]
    assert await listed(name="0%") == [draft]
    assert await listed(name="s_2") == [done]
    assert await listed(writer="u1") == [ready]
    assert await listed(writer='"u%\\') == [ready]
    assert await listed(writer="u") == []
    stages = dict(zip(CampaignStage, (draft, ready, scheduled, running, None, done), strict=False))
    for stage, campaign in stages.items():
        assert await listed(stage=stage) == ([campaign] if campaign else [])
    day = timedelta(days=1)
    assert await listed(since=NOON + day, until=NOON + 3 * day) == [scheduled, ready]
    assert await listed(since=NOON, name="news", stage="done") == [done]


NOW = datetime.now(UTC)


async def test_somebody_is_found_however_many_campaigns_came_later(database: Database) -> None:
    older = [await campaigns.put(database, created_at=NOW - timedelta(days=ago)) for ago in (8, 9)]
    later = {"state": State.RUNNING, "index_bits": 0, "created_at": NOW}
    await put(database, CampaignRow, *({**later, "id": f"later {n}"} for n in range(1_100)))
    async with database.read() as connection:
        found = await campaigns_of(connection, "u1", app="default", most=50)
        assert [each.campaign for each in found] == older
        assert len(await campaigns_of(connection, "u1", app=None, most=1)) == 1
        assert await campaigns_of(connection, "u1", app="another", most=50) == []


TWINS = "ets6w3", "4zawow"
"""Two userids with one checksum."""


async def create(store: CampaignStore, users: Iterable[str]) -> str:
    message = {"msgtype": "text", "text": {"content": "hello"}}
    return (await store.create({"name": "party", "message": message, "recipients": users})).id


async def chunks_of(store: CampaignStore, users: list[str], campaign: str) -> set[int] | None:
    async with store.database.read() as connection:
        return (await people_index.chunks_of(connection, users, [campaign]))[campaign]


async def test_people_with_one_checksum_are_in_the_chunks_of_both(store: CampaignStore) -> None:
    one, other = TWINS
    assert crc32(one.encode()) == crc32(other.encode())
    campaign = await create(store, [one, *(f"v{number}" for number in range(99)), other])
    assert await chunks_of(store, [one], campaign) == {0, 1}


async def test_a_large_campaign_is_indexed_in_parts(
    store: CampaignStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dingrelay_workers.campaigns.store.PAGE", 2)
    monkeypatch.setattr(people_index, "PART", 400)
    users = [f"u{number}" for number in range(1_500)]
    campaign = await create(store, users)
    assert await chunks_of(store, users, campaign) == set(range(15))
    assert await chunks_of(store, ["u0", "u1499"], campaign) == {0, 14}


async def test_a_campaign_of_an_earlier_version_is_looked_through(store: CampaignStore) -> None:
    campaign = await campaigns.put(store.database, people=14)
    assert await chunks_of(store, ["u1"], campaign) is None


async def test_a_question_reads_the_chunks_of_the_people_asked_about(store: CampaignStore) -> None:
    campaign = await create(store, (f"u{number}" for number in range(20_000)))
    assert await chunks_of(store, ["u7", "u19999", "x"], campaign) == {0, 199}


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=40), st.integers(0, 12))
def test_everybody_is_found_in_their_bucket(users: set[str], bits: int) -> None:
    index = PeopleIndex("x", bits)
    for number, user in enumerate(sorted(users)):
        index.add(number, [user])
    entries = {row["bucket"]: row["entries"] for row in index.rows()}
    for number, user in enumerate(sorted(users)):
        checksum = crc32(user.encode())
        found = people_index._numbers(
            entries[checksum >> (32 - bits)], checksum.to_bytes(4, "little")
        )
        assert number in list(found)
    assert list(index.rows()) == []


def test_a_bucket_is_about_a_hundred_people() -> None:
    assert bits_for(1) == 0
    for people in (1_000, 100_000, 1_000_000):
        assert 50 <= people / 2 ** bits_for(people) <= 130
    assert bits_for(10**8) == bits_for(10**7)
