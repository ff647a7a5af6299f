"""A campaign's arrivals over time: when its calls were taken, and how many people had read it when DingTalk was asked."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import NamedTuple

from sqlalchemy import BigInteger, cast, extract, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.campaigns.models import ChunkRow, ReadRow
from dingrelay_workers.database.database import change_rows
from dingrelay_workers.history.quarters import beginning_of

STEPS = (60, 300, 900, 3_600, 21_600, 86_400)
"""Seconds of a step of a picture, the finest first."""
MOST_STEPS = 60


class Arrival(NamedTuple):
    """People at the beginning of a step, or at the moment of a question."""

    at: datetime
    people: int


class Arrivals(NamedTuple):
    """Arrivals of a campaign.

    Attributes:
        seconds: of a step.
        sent: people in calls that DingTalk took, by step, from the first call to the last one.
        read: people who had read it, by quarter of an hour in which DingTalk was asked.
    """

    seconds: int
    sent: Sequence[Arrival]
    read: Sequence[Arrival]


NO_ARRIVALS = Arrivals(STEPS[0], (), ())
"""Arrivals of a campaign that was not started."""


async def arrivals_of(connection: AsyncConnection, campaign: str) -> Arrivals:
    """The arrivals of a campaign, in steps that suit its length."""
    at, seconds = ChunkRow.called_at, STEPS[0]
    number = cast(extract("epoch", at), BigInteger) // seconds
    query = select(number, func.sum(ChunkRow.accepted)).group_by(number)
    taken = ChunkRow.of(campaign), ChunkRow.task_id.is_not(None), at.is_not(None)
    minutes = {
        int(minute) * seconds: int(people)
        for minute, people in await connection.execute(query.where(*taken))
    }
    sent = list[Arrival]()
    if minutes:
        first, last = min(minutes), max(minutes)
        fit = (step for step in STEPS if last // step - first // step < MOST_STEPS)
        seconds = next(fit, (last - first) // MOST_STEPS + 1)
        steps = Counter[int]()
        for minute, people in minutes.items():
            steps[minute // seconds] += people
        sent = [
            Arrival(datetime.fromtimestamp(step * seconds, UTC), steps[step])
            for step in range(first // seconds, last // seconds + 1)
        ]
    rows = select(ReadRow.at, ReadRow.read).where(ReadRow.campaign == campaign)
    asked = (await connection.execute(rows.order_by(ReadRow.at))).all()
    totals = accumulate(row.read for row in asked)
    read = [Arrival(row.at, total) for row, total in zip(asked, totals, strict=True)]
    return Arrivals(seconds, sent, read)


async def note_read(connection: AsyncConnection, campaign: str, now: datetime, people: int) -> None:
    """Add people of a call who have read it to those of this quarter of an hour; in the campaign's own transaction."""
    key = {"campaign": campaign, "at": beginning_of(now)}
    same = ReadRow.campaign == campaign, ReadRow.at == key["at"]
    if not await change_rows(connection, ReadRow, *same, read=ReadRow.read + people):
        await connection.execute(insert(ReadRow), [{**key, "read": people}])
