"""A campaign's arrivals over time, on each database."""

from datetime import UTC, datetime, timedelta

from dingrelay_tasks.context import DeliveryReport
from dingrelay_workers.campaigns.arrivals import Arrival, Arrivals, arrivals_of
from dingrelay_workers.campaigns.calls import CampaignCalls
from dingrelay_workers.database.database import Database
from support import campaigns
from support.campaigns import taken

# Calls can be asked about for a day, by the clock of the test.
TEN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
MINUTE = timedelta(minutes=1)


async def arrivals(database: Database, campaign: str) -> Arrivals:
    async with database.read() as connection:
        return await arrivals_of(connection, campaign)


async def test_calls_are_counted_in_steps_that_suit_their_time(database: Database) -> None:
    for length, seconds in ((3, 60), (200, 300), (600, 900), (2_000, 3_600), (200_000, 200_001)):
        campaign = await campaigns.put(database, people=8)
        moments = (TEN, TEN + MINUTE / 2, TEN + length * MINUTE)
        calls = [taken(at, called_at=moment) for at, moment in enumerate(moments)]
        await campaigns.end(database, campaign, *calls)
        found = await arrivals(database, campaign)
        assert (found.seconds, found.read) == (seconds, [])
        assert len(found.sent) <= 61
        people = [arrival.people for arrival in found.sent]
        assert (people[0], people[-1], sum(people)) == (4, 2, 6)
        assert found.sent[0].at <= TEN < found.sent[1].at
    empty = await campaigns.put(database)
    assert await arrivals(database, empty) == Arrivals(60, [], [])


async def test_readers_are_added_up_by_the_time_of_the_question(database: Database) -> None:
    campaign = await campaigns.put(database)
    await campaigns.end(database, campaign, *(taken(at, called_at=TEN) for at in (0, 1)))
    for at, number, read in (
        (TEN + MINUTE, 0, []),
        (TEN + 2 * MINUTE, 1, ["u3"]),
        (TEN + 20 * MINUTE, 0, ["u1", "u2"]),
        (TEN + 21 * MINUTE, 1, ["u3"]),
        (TEN + 50 * MINUTE, 1, ["u3", "u4"]),
    ):
        calls = CampaignCalls(database, now=lambda at=at: at)
        [call] = await calls.confirmable(campaign, [number], since=at)
        users = {0: ["u1", "u2"], 1: ["u3", "u4"]}[number]
        unread = [user for user in users if user not in read]
        report = DeliveryReport(True, read=read, unread=unread)
        await calls.note_delivery(campaign, call, report)
        # One that was asked at the same moment is not counted again.
        await calls.note_delivery(campaign, call, report)
    quarters = [TEN + quarter * 15 * MINUTE for quarter in (0, 1, 3)]
    read_by = [Arrival(at, people) for at, people in zip(quarters, (1, 3, 4), strict=True)]
    assert (await arrivals(database, campaign)).read == read_by
