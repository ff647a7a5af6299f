"""Who was reached by which campaign is found by person, on each database."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, update

import campaigns as rows
from dingrelay_workers.campaigns import people_index
from dingrelay_workers.campaigns.audience import Audience
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState, OutcomeRow
from dingrelay_workers.campaigns.people_index import PeopleIndex, bits_for
from dingrelay_workers.campaigns.spec import CampaignSpec
from dingrelay_workers.campaigns.store import CampaignStore
from tables import prepare

NOW = datetime.now(UTC)
TWINS = "ets6w3", "4zawow"
"""Two userids with one checksum."""


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[CampaignStore]:
    prepare(database_url)
    store = CampaignStore(database_url)
    yield store
    await store.close()


async def create(store: CampaignStore, users: Iterable[str]) -> str:
    message = {"msgtype": "text", "text": {"content": "hello"}}
    spec = CampaignSpec.parse({"name": "party", "message": message})
    return (await store.create(spec, Audience(rows=users))).campaign.id


async def call(store: CampaignStore, campaign: str, at: datetime, *numbers: int) -> None:
    async with store.database.write("test") as connection:
        await connection.execute(
            update(ChunkRow)
            .where(ChunkRow.campaign == campaign, ChunkRow.number.in_(numbers))
            .values(called_at=at, state=ChunkState.SETTLED)
        )


async def reached(store: CampaignStore, users: list[str], names: list[str]) -> set[str]:
    since = NOW - timedelta(hours=1)
    called, coming = await people_index.reached(store.database, users, names, "content", since)
    assert coming == []
    return set(called)


async def test_people_of_chunks_that_were_called_today_are_reached(store: CampaignStore) -> None:
    campaign = await create(store, (f"u{number}" for number in range(1_000)))
    await call(store, campaign, NOW, 0, 9)
    await call(store, campaign, NOW - timedelta(days=2), 1)
    users = ["u0", "u99", "u100", "u500", "u900", "u999", "u1000", "nobody"]
    assert await reached(store, users, [campaign]) == {"u0", "u99", "u900", "u999"}
    assert await reached(store, users, []) == set()
    assert await reached(store, [], [campaign]) == set()
    assert await reached(store, users, ["none"]) == set()


async def test_people_left_out_of_one_campaign_may_have_been_reached_by_another(
    store: CampaignStore,
) -> None:
    first, second = [await create(store, ["ann", "bob"]) for _ in range(2)]
    for campaign in (first, second):
        await call(store, campaign, NOW, 0)
    outcome = {"chunk": 0, "outcome": "duplicate", "reason": ""}
    async with store.database.write("test") as connection:
        for user in ("ann", "bob"):
            left_out = {**outcome, "campaign": second, "userid": user}
            await connection.execute(insert(OutcomeRow), left_out)
        await connection.execute(
            insert(OutcomeRow), {**outcome, "campaign": first, "userid": "bob"}
        )
    assert await reached(store, ["ann", "bob"], [first, second]) == {"ann"}


async def test_people_with_one_checksum_are_distinguished(store: CampaignStore) -> None:
    one, other = TWINS
    assert crc32(one.encode()) == crc32(other.encode())
    campaign = await create(store, [one, *(f"v{number}" for number in range(99)), other])
    await call(store, campaign, NOW, 1)
    assert await reached(store, [one, other], [campaign]) == {other}


async def test_a_large_campaign_is_indexed_in_parts(
    store: CampaignStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dingrelay_workers.campaigns.store.PAGE", 2)
    monkeypatch.setattr(people_index, "PART", 400)
    users = [f"u{number}" for number in range(1_500)]
    campaign = await create(store, users)
    await call(store, campaign, NOW, *range(15))
    assert await reached(store, users, [campaign]) == set(users)


async def test_a_campaign_of_an_earlier_version_is_looked_through(store: CampaignStore) -> None:
    campaign = await rows.put(store.database, people=14)
    await call(store, campaign, NOW, 0)
    assert await reached(store, ["u1", "u3"], [campaign]) == {"u1"}


async def test_a_question_reads_the_chunks_of_the_people_asked_about(store: CampaignStore) -> None:
    campaign = await create(store, (f"u{number}" for number in range(20_000)))
    async with store.database.read() as connection:
        found = await people_index.chunks_of(connection, ["u7", "u19999", "x"], [campaign])
    assert found == {campaign: {0, 199}}


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=300), st.integers(0, 12))
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
