"""The preview of one campaign: its size, the limits it meets, and what the month has left."""

from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dingrelay_producers.settings import Settings
from dingrelay_workers import preflight
from dingrelay_workers.campaigns.audience import BATCH, Audience, Gathered, OnMalformed, gather
from dingrelay_workers.campaigns.estimate import Month, Pace, Size, month, pace
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.quiet import QuietHours
from dingrelay_workers.campaigns.spec import CampaignSpec, users_per_call
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import audience as directory
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.store.connections import impatient_redis


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The estimated cost of a campaign.

    Attributes:
        duplicates: rows with a recipient already read.
        malformed: rows that were skipped.
        gathered: what was read for it; None for a draft. Its people are gone by now.
    """

    size: Size
    pace: Pace
    month: Month
    duplicates: int
    malformed: int
    gathered: Gathered | None = None


async def of_draft(settings: Settings, store: CampaignStore, campaign: str) -> Preview:
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
    expected, quota = await _expected(settings, row, size)
    return Preview(
        size=size,
        pace=expected,
        month=quota,
        duplicates=row.duplicates,
        malformed=row.malformed,
    )


async def of_audience(
    settings: Settings,
    database: Database,
    spec: CampaignSpec,
    audience: Audience,
    *,
    malformed: OnMalformed = "refuse",
    on_rows: Callable[[int], None] | None = None,
) -> Preview:
    """Of one that is not: its audience is gathered, counted and forgotten.

    Raises:
        ContractError: as `gather`.
        ServiceUnavailable: as `of_draft`, and so is SettingsError.
    """
    async with gather(
        database, spec.app, spec.template, audience, malformed=malformed, on_rows=on_rows
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
    expected, quota = await _expected(settings, spec, size)
    return Preview(
        size=size,
        pace=expected,
        month=quota,
        duplicates=gathered.duplicates,
        malformed=gathered.malformed,
        gathered=gathered,
    )


async def count_look_ups(
    settings: Settings, database: Database, app: str, pages: AsyncIterable[Sequence[str]]
) -> int | None:
    """How many of these people are not in the directory, as `Size.not_in_directory`."""
    off = settings.recipients.check == "off"
    return None if off else await directory.count_absent(database, app, pages)


async def _expected(
    settings: Settings, campaign: CampaignSpec | CampaignRow, size: Size
) -> tuple[Pace, Month]:
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
    return expected, await month_of(settings, campaign.app, size)


async def month_of(settings: Settings, app: str, size: Size) -> Month:
    """What so many calls take of the month.

    Raises:
        ServiceUnavailable: Redis, where the month's calls are counted, cannot be reached.
    """
    used = await _used(settings, app)
    return month(size, used=used, limit=settings.quota.monthly_calls)


async def _used(settings: Settings, app: str) -> int:
    organisation = settings.apps[app].organisation if app in settings.apps else "default"
    async with impatient_redis(settings) as redis:
        return await Quota(redis, settings).used(organisation)
