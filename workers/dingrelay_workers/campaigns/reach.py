"""Counts the people that a campaign would not reach, before it starts; only reads.

What is found is of this moment: the directory as it was synced, the app's range as some worker has read it, the day's
messages as Redis has them.
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.client.campaign_documents import FirstRecipient
from dingrelay_producers.settings import Settings
from dingrelay_tasks.message import digest
from dingrelay_workers.campaigns.audience import BATCH, StagedChunk
from dingrelay_workers.database.database import Database
from dingrelay_workers.dingtalk.contacts import VisibleRange
from dingrelay_workers.directory import audience as directory
from dingrelay_workers.limiter.daily_limits import had_today
from dingrelay_workers.recipients.known_people import KnownPeople
from dingrelay_workers.recipients.visible_ranges import last_reading

MOST_LOOKED_AT = 200_000
"""People whose messages of the day and places are read one by one: some seconds."""
COUNTS = ("not_in_directory", "left", "out_of_range", "had_it_today", "at_daily_limit")
FIRST = 3
"""People whose messages are shown."""
ABSENT = 10
"""People who are in no directory and are named."""


async def count(
    settings: Settings,
    database: Database,
    redis: Redis,
    app: str,
    pages: AsyncIterable[Sequence[tuple[str, str]]],
) -> Mapping[str, Any]:
    """How many people, and which ones, `CampaignPreview` says it is of, by its fields.

    Args:
        settings: of this process.
        database: the directory's.
        redis: where the day's messages are.
        app: that would send.
        pages: userids, each with the digest of what the person gets.
    """
    synced = settings.sync.check_recipients and await directory.was_synced(database, app)
    reading = await last_reading(redis, app)
    visible = reading.range if reading is not None else None
    known = KnownPeople(database)
    counts = dict.fromkeys(COUNTS, 0)
    strangers: list[str] = []
    try:
        async for page in pages:
            had, at_limit = await had_today(redis, app, page)
            counts["had_it_today"] += len(had)
            counts["at_daily_limit"] += len(at_limit)
            if not synced:
                continue
            users = [user for user, _ in page]
            here = await known.find(app, users, None)
            absent = [user for user in users if user not in here]
            counts["not_in_directory"] += len(absent)
            left = await directory.who_left(database, app, absent)
            counts["left"] += len(left)
            more = (user for user in absent if user not in left)
            strangers += islice(more, ABSENT - len(strangers))
            if visible is not None and visible.is_known and not visible.everybody:
                sees = await known.find(app, here, visible.departments) | visible.users
                counts["out_of_range"] += len(here - sees)
    finally:
        await known.close()
    return {
        **counts,
        "absent": strangers,
        **({} if synced else {"not_in_directory": None, "left": None}),
        **({} if synced and _decides(visible) else {"out_of_range": None}),
    }


def _decides(visible: VisibleRange | None) -> bool:
    return visible is not None and (visible.everybody or visible.is_known)


async def contents(
    staged: AsyncIterable[StagedChunk], message: Mapping[str, Any]
) -> AsyncIterator[Sequence[tuple[str, str]]]:
    """The people of chunks with the digests of what they get, in pages."""
    common = digest(message)
    page: list[tuple[str, str]] = []
    async for users, own in staged:
        content = common if own is None else digest(own)
        page += [(user, content) for user in users]
        if len(page) >= BATCH:
            yield page
            page = []
    if page:
        yield page


async def first_recipients(
    database: Database, app: str, staged: AsyncIterable[StagedChunk], message: Mapping[str, Any]
) -> list[FirstRecipient]:
    """The first people and what they get."""
    first: list[tuple[str, Mapping[str, Any]]] = []
    async for users, own in staged:
        first += [(user, own or message) for user in users]
        if len(first) >= FIRST:
            break
    known = await directory.fields(database, app, [user for user, _ in first[:FIRST]])
    return [
        FirstRecipient(
            userid=user, name=str(known.get(user, {}).get("name") or ""), message=dict(content)
        )
        for user, content in first[:FIRST]
    ]
