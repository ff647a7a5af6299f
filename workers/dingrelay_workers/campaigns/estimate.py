"""Cost of a campaign, and the people that it would not reach, before anything is sent; only reads."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_actor
from dingrelay_producers.client.campaign_documents import CampaignPreview, FirstRecipient, Plan
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import clock
from dingrelay_tasks.message import digest
from dingrelay_tasks.sentence import en
from dingrelay_workers import preflight
from dingrelay_workers.backlog import estimate as backlog
from dingrelay_workers.backlog.shown import MOST as MOST_COUNTED
from dingrelay_workers.campaigns.audience import (
    BATCH,
    UNWATCHED,
    CreationProgress,
    Gathered,
    StagedChunk,
    gather,
)
from dingrelay_workers.campaigns.documents import CampaignSpec, users_per_call
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState, State
from dingrelay_workers.campaigns.pace import QuietHours
from dingrelay_workers.campaigns.store import PAGE, Check
from dingrelay_workers.database.database import Database
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, USER
from dingrelay_workers.dingtalk.contacts import VisibleRange
from dingrelay_workers.directory import audience as directory
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.daily_limits import had_today
from dingrelay_workers.limiter.quota import SHARES, Quota
from dingrelay_workers.limiter.rules import Rules, in_words
from dingrelay_workers.recipients.known_people import KnownPeople
from dingrelay_workers.recipients.visible_ranges import last_reading
from dingrelay_workers.store.connections import impatient_redis

MOST_LOOKED_AT = 200_000
"""People whose messages of the day and places are read one by one: some seconds."""
COUNTS = ("not_in_directory", "left", "out_of_range", "had_it_today", "at_daily_limit")
FIRST = 3
"""People whose messages are shown."""
ABSENT = 10
"""People who are in no directory and are named."""
COUNTED = (
    *("duplicates", "malformed", "unmatched", "causes"),
    *("excluded", "file_rows", "skipped"),
)
"""Fields of a check that are known since the campaign's people were gathered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A campaign's share of the organisation's calls of this month.

    Attributes:
        used: calls that are used already.
        limit: calls of the month; None for no limit.
        share: of the month's calls that this campaign takes; None without a limit.
        fits: whether it gets through before broadcasts have to stop.
    """

    used: int
    limit: int | None
    share: float | None
    fits: bool


def pace(
    rules: Rules, app: str, *, recipients: int, calls: int, look_ups: int, rate: int | None
) -> tuple[float, str]:
    """Seconds of sending at the app's limits and the campaign's own rate, and what makes it take that long.

    Args:
        rules: of the fleet.
        app: whose rules.
        recipients: people, each once.
        calls: one a chunk.
        look_ups: people who are looked up at DingTalk before their calls.
        rate: the campaign's own, recipients a minute; None for none.
    """
    amounts = {"calls": calls, "recipients": recipients}
    spans: list[tuple[float, str]] = [(0.0, "")]
    spans += [
        (amounts[rule.unit] / rule.rate, in_words(rule.unit, rule.limit, rule.window))
        for rule in rules.of(app, MESSAGE_SEND.name)
        if rule.limit is not None
    ]
    spans += [
        (look_ups / rule.rate, en("{}, for look-ups", in_words(rule.unit, rule.limit, rule.window)))
        for rule in rules.of(app, USER.rule)
        if rule.limit is not None
    ]
    if rate is not None:
        spans.append((recipients / rate * 60, en("{} recipients a minute, its own rate", rate)))
    return max(spans)


def share_of_month(calls: int, *, used: int, limit: int | None) -> Month:
    """The calls' share of the organisation's month, whose last part is closed to broadcasts."""
    if limit is None:
        return Month(used=used, limit=None, share=None, fits=True)
    share = calls / limit if limit else float("inf")
    fits = used + calls <= limit * SHARES["bulk"]
    return Month(used=used, limit=limit, share=share, fits=fits)


async def of_ready(settings: Settings, database: Database, row: CampaignRow) -> CampaignPreview:
    """Check a campaign whose people are stored.

    Raises:
        ServiceUnavailable: Redis, where the month's calls are counted, cannot be reached.
        SettingsError: a rule in the settings can't be read.
    """

    def staged() -> AsyncIterator[StagedChunk]:
        return _stored(database, row, ChunkRow.state == ChunkState.PENDING)

    # Its message is no template any more where that had no fields: the braces are its text.
    return await _preview(settings, database, row, row, staged, row.message, row.chunks)


async def _stored(
    database: Database, row: CampaignRow, *where: ColumnElement[bool], at_once: int = PAGE
) -> AsyncIterator[StagedChunk]:
    """The chunks of a campaign for which this holds, in their order."""
    query = select(ChunkRow.number, ChunkRow.users, ChunkRow.message)
    query = query.where(ChunkRow.campaign == row.id, *where)
    async for page in database.pages(query, ChunkRow.number, at_once):
        for chunk in page:
            yield chunk.users.split(","), chunk.message


async def of_plan(
    settings: Settings, database: Database, plan: Plan, progress: CreationProgress = UNWATCHED
) -> CampaignPreview:
    """Check a plan: its people are gathered, counted and forgotten.

    Raises:
        ContractError: as `gather`.
        ServiceUnavailable: as `of_ready`, and so is SettingsError.
    """
    spec = CampaignSpec.of(plan)
    async with gather(database, spec, plan, progress) as gathered:
        return await _of_gathered(settings, database, spec, gathered)


def check(settings: Settings, database: Database) -> Check:
    """The check that a campaign's row keeps; empty where Redis or a rule of the settings can't be used."""

    async def found(spec: CampaignSpec, gathered: Gathered) -> CampaignPreview | None:
        with suppress(ServiceUnavailable, SettingsError):
            return await _of_gathered(settings, database, spec, gathered)
        return None

    return found


async def _of_gathered(
    settings: Settings, database: Database, spec: CampaignSpec, gathered: Gathered
) -> CampaignPreview:
    async def staged() -> AsyncIterator[StagedChunk]:
        for chunk in gathered.staging.chunks(spec.users_per_call):
            yield chunk

    calls = gathered.staging.count_chunks(spec.users_per_call)
    message = spec.template.message
    return await _preview(settings, database, spec, gathered, staged, message, calls)


async def _preview(
    settings: Settings,
    database: Database,
    campaign: CampaignSpec | CampaignRow,
    people: Gathered | CampaignRow,
    staged: Callable[[], AsyncIterator[StagedChunk]],
    message: Mapping[str, Any],
    calls: int,
) -> CampaignPreview:
    preflight.check(settings)
    rules = Rules.from_settings(settings.limits, settings.egress)
    app, recipients = campaign.app, people.recipients
    async with impatient_redis(settings) as redis:
        pages = _contents(staged(), message)
        reach = await _reach(settings, database, redis, app, recipients, pages)
        waiting = await _waiting(settings, database, redis, campaign, rules)
        month = await month_of(settings, redis, app, calls)
    seconds, limit = pace(
        rules,
        app,
        recipients=recipients,
        calls=calls,
        look_ups=reach["not_in_directory"] or 0,
        rate=campaign.rate,
    )
    now = clock.now()
    start = max(now, campaign.start_at or now)
    quiet = QuietHours.parse(campaign.quiet)
    # Of a plan they are filled in from its own file, where the directory may not be read.
    first = staged() if isinstance(people, Gathered) else as_shown(staged())
    return CampaignPreview(
        recipients=recipients,
        calls=calls,
        plain_calls=-(-recipients // users_per_call(message)),
        minutes=seconds / 60,
        waiting_minutes=waiting / 60,
        limit=limit,
        starts_at=quiet.ends(start) or start,
        ends_at=quiet.finish(start, timedelta(seconds=seconds + waiting)),
        quota_used=month.used,
        quota_limit=month.limit,
        quota_share=month.share,
        fits=month.fits,
        first=await _first(database, app, first, message),
        checked_at=now,
        **reach,
        **{name: getattr(people, name) for name in COUNTED},
    )


async def _reach(
    settings: Settings,
    database: Database,
    redis: Redis,
    app: str,
    recipients: int,
    pages: AsyncIterable[Sequence[tuple[str, str]]],
) -> Mapping[str, Any]:
    """How many people, and which ones, `CampaignPreview` says it is of, by its fields.

    What is found is of this moment: the directory as it was synced, the app's range as some worker has read it, the day's
    messages as Redis has them.

    Args:
        settings: of this process.
        database: the directory's.
        redis: where the day's messages are.
        app: that would send.
        recipients: how many they are.
        pages: userids, each with the digest of what the person gets.
    """
    checks = settings.sync.check_recipients
    if recipients > MOST_LOOKED_AT:
        every = ([user for user, _ in page] async for page in pages)
        unknown = await directory.count_absent(database, app, every) if checks else None
        return {**dict.fromkeys(COUNTS), "not_in_directory": unknown}
    synced = checks and await directory.was_synced(database, app)
    reading = await last_reading(redis, app)
    visible = reading.range if reading is not None else None
    known_people = KnownPeople(database)
    counts = dict.fromkeys(COUNTS, 0)
    not_found: list[str] = []
    try:
        async for page in pages:
            had, at_limit = await had_today(redis, app, page)
            counts["had_it_today"] += len(had)
            counts["at_daily_limit"] += len(at_limit)
            if not synced:
                continue
            users = [user for user, _ in page]
            present_users = await known_people.find(app, users, None)
            absent = [user for user in users if user not in present_users]
            counts["not_in_directory"] += len(absent)
            departed_users = await directory.left_users(database, app, absent)
            counts["left"] += len(departed_users)
            more = (user for user in absent if user not in departed_users)
            not_found += islice(more, ABSENT - len(not_found))
            if visible is not None and visible.is_known and not visible.everybody:
                sees = (
                    await known_people.find(app, present_users, visible.departments) | visible.users
                )
                counts["out_of_range"] += len(present_users - sees)
    finally:
        await known_people.close()
    return {
        **counts,
        "absent": not_found,
        **({} if synced else {"not_in_directory": None, "left": None}),
        **({} if synced and _decides(visible) else {"out_of_range": None}),
    }


def _decides(visible: VisibleRange | None) -> bool:
    return visible is not None and (visible.everybody or visible.is_known)


async def _contents(
    staged: AsyncIterable[StagedChunk], message: Mapping[str, Any]
) -> AsyncIterator[Sequence[tuple[str, str]]]:
    """The people of chunks with the digests of what they get, in pages."""
    common = digest(message)
    page: list[tuple[str, str]] = []
    async for users, filled_in in staged:
        content = common if filled_in is None else digest(filled_in)
        page += [(user, content) for user in users]
        if len(page) >= BATCH:
            yield page
            page = []
    if page:
        yield page


async def _waiting(
    settings: Settings,
    database: Database,
    redis: Redis,
    campaign: CampaignSpec | CampaignRow,
    rules: Rules,
) -> float:
    """Seconds until what waits in the lane of campaigns, and campaigns of the app that run, are through."""
    fleet = await overview.read_pace(redis, settings)
    _, lanes = await backlog.read(redis, fleet, most=MOST_COUNTED)
    queued = [
        lane.drain_seconds or 0.0
        for lane in lanes
        if (lane.app, lane.lane) == (campaign.app, "bulk")
    ]
    row = CampaignRow
    unsent_counts = select(
        func.coalesce(func.sum(row.recipients - row.accepted - row.left_out - row.failed), 0),
        func.coalesce(func.sum(row.chunks - row.settled), 0),
    ).where(
        row.app == campaign.app,
        row.state == State.RUNNING,
        row.id != getattr(campaign, "id", ""),
    )
    async with database.read() as connection:
        people, calls = (await connection.execute(unsent_counts)).one()
    running, _ = pace(
        rules, campaign.app, recipients=int(people), calls=int(calls), look_ups=0, rate=None
    )
    return sum(queued) + running


async def first_recipients(database: Database, row: CampaignRow) -> list[FirstRecipient]:
    """The first people of a campaign that is stored, and what they get."""
    # Each chunk has one at least.
    staged = _stored(database, row, at_once=FIRST)
    return await _first(database, row.app, as_shown(staged), row.message)


async def as_shown(staged: AsyncIterable[StagedChunk]) -> AsyncIterator[StagedChunk]:
    """The chunks of a stored campaign; without what the directory may have filled in, for those who may not read it."""
    shown = current_actor().reads_directory
    async for users, message in staged:
        yield users, message if shown else None


async def _first(
    database: Database, app: str, staged: AsyncIterable[StagedChunk], message: Mapping[str, Any]
) -> list[FirstRecipient]:
    """The first people and what they get."""
    first: list[tuple[str, Mapping[str, Any]]] = []
    async for users, filled in staged:
        first += [(user, filled or message) for user in users]
        if len(first) >= FIRST:
            break
    userids = [user for user, _ in first[:FIRST]] if current_actor().reads_directory else []
    fields = await directory.fields(database, app, userids)
    return [
        FirstRecipient(
            userid=user, name=str(fields.get(user, {}).get("name") or ""), message=dict(content)
        )
        for user, content in first[:FIRST]
    ]


async def ends_at(connection: AsyncConnection, row: CampaignRow, now: datetime) -> datetime | None:
    """When a campaign that runs is through at the pace of the last minute; None where no call left in it."""
    begun = max(row.started_at or now, now - timedelta(minutes=1))
    lately = select(func.sum(ChunkRow.size)).where(
        ChunkRow.campaign == row.id, ChunkRow.called_at > begun
    )
    people = int(await connection.scalar(lately) or 0)
    if row.state != State.RUNNING or not people:
        return None
    pending = row.recipients - row.accepted - row.left_out - row.failed
    return QuietHours.parse(row.quiet).finish(now, (now - begun) * (pending / people))


async def month_of(settings: Settings, redis: Redis, app: str, calls: int) -> Month:
    """The month with so many calls added."""
    organisation = settings.apps[app].organisation if app in settings.apps else "default"
    used = await Quota(redis, settings).used(organisation)
    return share_of_month(calls, used=used, limit=settings.quota.monthly_calls)
