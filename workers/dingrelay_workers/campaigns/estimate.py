"""Estimates what a campaign will take, before anything is sent."""

from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from dingrelay_producers.client.campaign_documents import CampaignPreview, Malformed, SkippedRow
from dingrelay_producers.settings import Settings
from dingrelay_tasks.campaign_chunk import CampaignChunk
from dingrelay_tasks.sentence import Sentence, en
from dingrelay_workers import preflight
from dingrelay_workers.campaigns.audience import BATCH, Audience, OnMalformed, gather
from dingrelay_workers.campaigns.documents import CampaignSpec, users_per_call
from dingrelay_workers.campaigns.models import CampaignRow, ChunkState
from dingrelay_workers.campaigns.pace import QuietHours
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, USER
from dingrelay_workers.directory import audience as directory
from dingrelay_workers.limiter.quota import SHARES, Quota
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.store.connections import impatient_redis

RULES = {"calls": en("{} calls in {:g} s"), "recipients": en("{} recipients in {:g} s")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a campaign is.

    Attributes:
        recipients: people, each once.
        calls: one a chunk.
        plain_calls: how many it would be if all got the same message.
        not_in_directory: people who are looked up at DingTalk before their calls; None where there are
            no look-ups, since the directory was never synced or `[recipients] check` is off.
    """

    recipients: int
    calls: int
    plain_calls: int
    not_in_directory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPace:
    """How long a campaign of some size takes, with all limits to itself.

    Attributes:
        minutes: of sending.
        limit: what makes it take that long, such as ``5000 recipients in 60 s``; "" for nothing.
        starts_at: when it may send first.
        ends_at: when it is through, after the quiet hours in between.
    """

    minutes: float
    limit: str
    starts_at: datetime
    ends_at: datetime


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
    size: Size,
    rules: Rules,
    app: str,
    *,
    rate: int | None,
    quiet: QuietHours,
    start: datetime,
) -> CampaignPace:
    """How long it takes at the limits of the app, at the campaign's own rate and at rest.

    Args:
        size: how large it is.
        rules: of the fleet.
        app: whose rules.
        rate: the campaign's own, recipients a minute; None for none.
        quiet: hours in which it rests.
        start: when it may begin.
    """
    spans = [(0.0, ""), *_spans(size, rules, app)]
    if rate is not None:
        spans.append(
            (size.recipients / rate * 60, en("{} recipients a minute, its own rate", rate))
        )
    seconds, limit = max(spans)
    work = timedelta(seconds=seconds)
    return CampaignPace(
        minutes=seconds / 60,
        limit=limit,
        starts_at=quiet.ends(start) or start,
        ends_at=quiet.finish(start, work),
    )


def share_of_month(size: Size, *, used: int, limit: int | None) -> Month:
    """What it takes of the organisation's calls, of which a broadcast may not use the last."""
    if limit is None:
        return Month(used=used, limit=None, share=None, fits=True)
    share = size.calls / limit if limit else float("inf")
    fits = used + size.calls <= limit * SHARES["bulk"]
    return Month(used=used, limit=limit, share=share, fits=fits)


def _spans(size: Size, rules: Rules, app: str) -> Sequence[tuple[float, str]]:
    """Seconds that each rule makes it take, and the rule."""
    amounts = {"calls": size.calls, "recipients": size.recipients}
    spans = [
        (amounts[rule.unit] / rule.rate, Sentence(RULES[rule.unit], rule.limit, rule.window))
        for rule in rules.of(app, MESSAGE_SEND.name)
        if rule.limit is not None
    ]
    look_ups = size.not_in_directory or 0
    return spans + [
        (look_ups / rule.rate, en("{} look-ups in {:g} s", rule.limit, rule.window))
        for rule in rules.of(app, USER.rule)
        if rule.limit is not None
    ]


async def of_draft(settings: Settings, store: CampaignStore, campaign: str) -> CampaignPreview:
    """Of a campaign that is stored.

    Raises:
        CampaignNotFound: there is none with this id.
        ServiceUnavailable: Redis, where the month's calls are counted, cannot be reached.
        SettingsError: a rule in the settings can't be read.
    """
    # Its message is no template any more where that had no fields: the braces are its text.
    row = await store.get(campaign)
    size = Size(
        recipients=row.recipients,
        calls=row.chunks,
        plain_calls=-(-row.recipients // users_per_call(row.message)),
        not_in_directory=await count_look_ups(
            settings, store.database, row.app, store.people(campaign)
        ),
    )
    return await _preview(settings, row, size, duplicates=row.duplicates, malformed=row.malformed)


async def of_audience(
    settings: Settings,
    database: Database,
    spec: CampaignSpec,
    audience: Audience,
    *,
    malformed: OnMalformed = "refuse",
    on_malformed: Callable[[Malformed], None] | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> CampaignPreview:
    """Of one that is not: its audience is gathered, counted and forgotten.

    Raises:
        ContractError: as `gather`.
        ServiceUnavailable: as `of_draft`, and so is SettingsError.
    """
    async with gather(
        database,
        spec.app,
        spec.template,
        audience,
        malformed=malformed,
        on_malformed=on_malformed,
        on_rows=on_rows,
    ) as gathered:
        people = gathered.recipients
        size = Size(
            recipients=people,
            calls=gathered.staging.count_chunks(spec.users_per_call),
            plain_calls=-(-people // spec.users_per_call),
            not_in_directory=await count_look_ups(
                settings, database, spec.app, gathered.staging.pages(BATCH)
            ),
        )
    return await _preview(
        settings,
        spec,
        size,
        duplicates=gathered.duplicates,
        malformed=gathered.malformed,
        excluded=gathered.excluded,
        skipped=[SkippedRow.of(row) for row in gathered.first_malformed],
    )


async def count_look_ups(
    settings: Settings, database: Database, app: str, pages: AsyncIterable[Sequence[str]]
) -> int | None:
    """How many of these people are not in the directory, as `Size.not_in_directory`."""
    off = settings.recipients.check == "off"
    return None if off else await directory.count_absent(database, app, pages)


async def _preview(
    settings: Settings, campaign: CampaignSpec | CampaignRow, size: Size, **counts: Any
) -> CampaignPreview:
    preflight.check(settings)
    now = datetime.now(UTC)
    expected = pace(
        size,
        Rules.from_settings(settings.rules, settings.egress),
        campaign.app,
        rate=campaign.rate,
        quiet=QuietHours.parse(campaign.quiet),
        start=max(now, campaign.start_at or now),
    )
    month = await month_of(settings, campaign.app, size)
    return CampaignPreview(
        **asdict(size),
        **asdict(expected),
        quota_used=month.used,
        quota_limit=month.limit,
        quota_share=month.share,
        fits=month.fits,
        **counts,
    )


async def month_of(settings: Settings, app: str, size: Size) -> Month:
    """What so many calls take of the month.

    Raises:
        ServiceUnavailable: Redis, where the month's calls are counted, cannot be reached.
    """
    used = await _used(settings, app)
    return share_of_month(size, used=used, limit=settings.quota.monthly_calls)


async def _used(settings: Settings, app: str) -> int:
    organisation = settings.apps[app].organisation if app in settings.apps else "default"
    async with impatient_redis(settings) as redis:
        return await Quota(redis, settings).used(organisation)


SHOWN = 3


class DryCall(BaseModel):
    """A call that a campaign would make."""

    users: list[str]
    message: dict[str, Any]


class DryRun(BaseModel):
    """The calls that a campaign would make from its present state."""

    id: str
    recipients: int
    """People who would be called for."""
    calls: int
    first: list[DryCall]
    """The first of the calls."""


async def dry_run(store: CampaignStore, campaign: str) -> DryRun:
    """Make up and check all calls that are still to be made; none leaves.

    Raises:
        CampaignNotFound: there is none with this id.
        ContractError: a chunk is none that could be sent.
    """
    row = await store.get(campaign)
    run = DryRun(id=campaign, recipients=0, calls=0, first=[])
    async for page in store.chunks(campaign):
        for chunk in page:
            if chunk.state == ChunkState.SETTLED:
                continue
            call = DryCall(users=chunk.users.split(","), message=chunk.message or row.message)
            asked = {"app": row.app, "campaign": campaign, "number": chunk.number}
            CampaignChunk.parse({**asked, **call.model_dump()})
            run.recipients += len(call.users)
            run.calls += 1
            if len(run.first) < SHOWN:
                run.first.append(call)
    return run
