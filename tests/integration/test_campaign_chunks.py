"""Releasing, settling and splitting chunks, on SQLite and PostgreSQL."""

from dingrelay_workers.campaigns import chunks, people_index
from dingrelay_workers.campaigns.chunks import CANCELLED, ChunkEnding, Release
from dingrelay_workers.campaigns.models import ChunkRow, OutcomeKind, State
from dingrelay_workers.campaigns.queue import chunk_job
from dingrelay_workers.database.database import Database
from support import campaigns
from support.campaigns import NOW, failed, taken
from support.rows import count

ERROR = {"class": "permanent", "code": "40035", "message": "no", "hint": ""}


async def test_chunks_are_released_in_order_and_once(database: Database) -> None:
    campaign = await campaigns.put(database, people=5)
    assert [await campaigns.release(database, campaign, 2) for _ in range(3)] == [[0, 1], [2], []]
    async with database.read() as connection:
        queued = await chunks.queued(connection, campaign)
    assert queued == {Release(number, 1): NOW for number in range(3)}


async def test_an_end_counts_once(database: Database) -> None:
    campaign = await campaigns.put(database, people=8)
    await campaigns.release(database, campaign, 3)
    endings = (
        taken(0, accepted=1, left_out={OutcomeKind.DUPLICATE: ["u2"]}),
        failed(1, ERROR),
        taken(2, ambiguous=True),
        taken(3),
    )
    counts = await campaigns.settle(database, campaign, *endings)
    assert counts == chunks.Counts(3, 3, 1, 2, 0, 2)
    assert (await campaigns.settle(database, campaign, *endings)).settled == 0
    row = await campaigns.read(database, campaign)
    assert (row.settled, row.accepted, row.left_out, row.failed, row.calls) == (3, 3, 1, 2, 2)
    assert await campaigns.outcomes(database, campaign) == {"u2": "duplicate"}
    assert [
        (chunk.state, chunk.task_id, chunk.ambiguous, chunk.error)
        for chunk in await campaigns.chunks(database, campaign)
    ] == [
        ("settled", 7, False, None),
        ("settled", None, False, ERROR),
        ("settled", 9, True, None),
        ("pending", None, False, None),
    ]
    assert await count(database, ChunkRow, ChunkRow.error.is_(None)) == 3


async def test_chunks_that_are_given_back_are_released_again(database: Database) -> None:
    campaign = await campaigns.put(database)
    await campaigns.release(database, campaign, 2)
    await campaigns.settle(database, campaign, ChunkEnding(Release(0, 1), accepted=2))
    async with database.write("x") as connection:
        await chunks.give_back(connection, campaign, [Release(0, 1), Release(1, 1)])
    assert await campaigns.release(database, campaign, 9) == [1]
    async with database.read() as connection:
        assert list(await chunks.queued(connection, campaign)) == [Release(1, 2)]


async def test_the_outcome_of_a_release_is_not_that_of_the_next(database: Database) -> None:
    campaign = await campaigns.put(database)
    await campaigns.release(database, campaign, 1)
    async with database.write("x") as connection:
        await chunks.give_back(connection, campaign, [Release(0, 1)])
    await campaigns.release(database, campaign, 1)
    ended = await campaigns.settle(database, campaign, ChunkEnding(Release(0, 1), accepted=2))
    assert ended.settled == 0
    async with database.write("x") as connection:
        await chunks.give_back(connection, campaign, [Release(0, 1)])
        assert await chunks.lost(connection, campaign, [Release(0, 1)]) == []
        again = await chunks.lost(connection, campaign, [Release(0, 2)])
        assert list(await chunks.queued(connection, campaign)) == [Release(0, 2)]
    assert [(chunk.release, chunk.repeated) for chunk in again] == [(Release(0, 2), True)]


async def test_cancelling_ends_what_has_no_job(database: Database) -> None:
    campaign = await campaigns.put(database, people=6)
    await campaigns.release(database, campaign, 1)
    async with database.write("x") as connection:
        assert not await chunks.cancel_pending(connection, campaign, seconds=60)
    rows = await campaigns.chunks(database, campaign)
    assert [chunk.error for chunk in rows] == [None, CANCELLED, CANCELLED]
    row = await campaigns.read(database, campaign)
    assert (row.settled, row.accepted, row.failed) == (2, 0, 0)


async def test_active_are_those_that_run_or_have_jobs(database: Database) -> None:
    running = await campaigns.put(database)
    halted = [await campaigns.put(database, state=state) for state in (State.PAUSED, "cancelled")]
    for state in (State.DRAFT, State.DONE, State.PAUSED):
        await campaigns.put(database, state=state)
    for campaign in halted:
        await campaigns.release(database, campaign, 1)
    halted.append(await campaigns.put(database, state=State.CANCELLED))
    async with database.read() as connection:
        found = await chunks.active(connection)
    assert [campaign.id for campaign in found] == [running, *halted]
    assert (found[0].state, found[0].chunk_size) == (State.RUNNING, 2)


async def test_people_moved_to_another_chunk_are_found_there(database: Database) -> None:
    name = await campaigns.put(database, people=7, size=4, index_bits=0)
    async with database.write(name) as connection:
        await chunks.split(connection, name, 1, 3)
        await chunks.split(connection, name, 2, 2)
        released = await chunks.release(connection, name, 9, NOW)
    people = {chunk.release.number: chunk.users for chunk in released}
    assert people == {0: ["u1", "u2"], 1: ["u5", "u6"], 2: ["u4"], 3: ["u3"], 4: ["u7"]}
    assert (await campaigns.read(database, name)).chunks == 5
    async with database.read() as connection:
        for user, number in (("u3", 3), ("u4", 2), ("u7", 4)):
            found = await people_index.chunks_of(connection, [user], [name])
            assert number in (found[name] or ())


def test_each_release_of_a_chunk_has_a_job_of_its_own() -> None:
    releases = [Release(number, generation) for number in (0, 1, 11) for generation in range(3)]
    jobs = {chunk_job("default", "campaign", release) for release in releases}
    assert len(jobs) == len(releases)
    assert jobs.isdisjoint(chunk_job("default", "another", release) for release in releases)
