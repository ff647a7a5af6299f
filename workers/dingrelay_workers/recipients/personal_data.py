"""A person among those who can be reached: in the counts of the day, the range of an app, and robots' sessions."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.status import json_object
from dingrelay_tasks import beijing
from dingrelay_tasks.person_fields import Path, people_in
from dingrelay_tasks.sentence import en
from dingrelay_workers.limiter.daily_limits import place
from dingrelay_workers.store.scans import ends_at, pages_of_keys
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores

_RANGES = keys.visible_range(""), "range.users"
_SESSIONS = keys.robot_session(""), "senderStaffId"
"""Prefix of keys, and the path of the userids in what each holds."""
_SESSION_LIVES = timedelta(milliseconds=keys.ROBOT_SESSION_TTL_MS)


class _Count(NamedTuple):
    what: str
    app: str
    day: str
    value: str
    until: datetime | None


async def export_limits(stores: Stores, subject: DataSubject) -> Rows:
    """Their counts for the limits of a day."""
    return [
        {"day": count.day, "app": count.app, "what": count.what, "value": count.value}
        async for count in _counts(stores.redis, subject)
    ]


async def erase_limits(stores: Stores, erasing: Erasing) -> None:
    """Note the counts of days up to the request: they go by themselves."""
    async for count in _counts(stores.redis, erasing):
        if count.day <= beijing.day(erasing.since):
            reason = en("what keeps DingTalk's limits of {}", count.day)
            erasing.leave("daily_limits", f"{count.app} {count.what}", reason, count.until)


async def _counts(redis: Redis, subject: DataSubject) -> AsyncIterator[_Count]:
    shard, digest = place(subject.user)
    # Received contents are kept only as digests of content and person together.
    for noun, field, end in (("content", subject.user, ""), ("received", str(digest), f":{shard}")):
        prefix = f"{keys.PREFIX}{noun}:"
        async for keys_page in pages_of_keys(redis, prefix, end):
            page = [key for key in keys_page if not key.endswith(f":had{end}")]
            pipe = redis.pipeline(transaction=False)
            for key in page:
                pipe.hget(key, field)
            for key, value in zip(page, await pipe.execute(), strict=True):
                app, day = key.removeprefix(prefix).split(":")[:2]
                if value is not None and subject.covers(app):
                    yield _Count(noun, app, day, value.decode(), await ends_at(redis, key))


async def export_ranges(stores: Stores, subject: DataSubject) -> Rows:
    """The apps whose range names them."""
    return [{"app": app} async for _, app, _ in _documents_naming(stores.redis, subject, *_RANGES)]


async def erase_ranges(stores: Stores, erasing: Erasing) -> None:
    """Delete ranges that were read before: they are read again."""
    async for key, _, document in _documents_naming(stores.redis, erasing, *_RANGES):
        if document["read"] <= erasing.since.timestamp() * 1000:
            erasing.changed["visible_ranges"] += await stores.redis.delete(key)


async def export_sessions(stores: Stores, subject: DataSubject) -> Rows:
    """The sessions in which robots can reply to them."""
    return [
        document async for _, _, document in _documents_naming(stores.redis, subject, *_SESSIONS)
    ]


async def erase_sessions(stores: Stores, erasing: Erasing) -> None:
    """Delete sessions of messages from before: a reply to one is refused from then on."""
    async for key, _, _ in _documents_naming(stores.redis, erasing, *_SESSIONS):
        ends = await ends_at(stores.redis, key)
        if ends is None or ends - _SESSION_LIVES <= erasing.since:
            erasing.changed["robot_sessions"] += await stores.redis.delete(key)


async def _documents_naming(
    redis: Redis, subject: DataSubject, prefix: str, path: Path
) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """The keys with this prefix whose JSON names the person there; with their apps, and what they hold."""
    async for page in pages_of_keys(redis, prefix):
        for key, text in zip(page, await redis.mget(page), strict=True):
            document = json_object(cast("bytes", text or b""))
            app = document.get("app", key.removeprefix(prefix))
            if subject.user in people_in(document, [path]) and subject.covers(app):
                yield key, app, document


LIMITS = PersonalData(
    place="daily_limits",
    title=en("daily limits"),
    keys=("content", "received"),
    export=export_limits,
    erase=erase_limits,
)
RANGES = PersonalData(
    place="visible_ranges",
    title=en("ranges of apps"),
    keys=("visible_range",),
    export=export_ranges,
    erase=erase_ranges,
)
SESSIONS = PersonalData(
    place="robot_sessions",
    title=en("replies to robots"),
    keys=("robot_session",),
    export=export_sessions,
    erase=erase_sessions,
)
