"""Why a campaign waits, in one sentence."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.zone import local
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog.estimate import read_pauses
from dingrelay_workers.campaigns import pace
from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.campaigns.pace import QuietHours
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.breakers import BreakerState
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.quota import SHARES, Quota
from dingrelay_workers.limiter.rules import in_words

LANE: Lane = "bulk"
BRIEF = timedelta(seconds=3)
"""A pause that is over before a reader has read of it is none."""


async def why_it_waits(settings: Settings, redis: Redis, row: CampaignRow, now: datetime) -> str:
    """Why no call of a campaign leaves now, or why they leave slowly; "" where nothing holds it up.

    Args:
        settings: of this process.
        redis: of the fleet.
        row: the campaign.
        now: the present time.

    Raises:
        RedisError: Redis can't be reached.
    """
    if row.state == State.PAUSED:
        return row.reason
    if row.state != State.RUNNING:
        return ""
    if row.start_at is not None and row.start_at > now:
        return en("It starts at {}.", local(row.start_at))
    if (quiet_until := QuietHours.parse(row.quiet).ends(now)) is not None:
        return en("Quiet hours: it goes on at {}.", local(quiet_until))
    if not await redis.exists(keys.alive(f"dingrelay.{LANE}")):
        return en("No worker serves the lane {}.", LANE)
    for pause in await read_pauses(redis):
        if pause.name.has(row.app, LANE, row.sender):
            return en("{} is paused until {} at the latest.", pause.id, local(pause.until))
    now_kept = await overview.read_pace(redis, settings)
    return (
        _outage(row.app, now_kept.breakers)
        or await _month(settings, redis, row.app)
        or _limit(row, now_kept.buckets, now)
    )


def _outage(app: str, breakers: Sequence[BreakerState]) -> str:
    for breaker in breakers:
        if breaker.stops(app, ""):
            return en("The app {} is held: {}", app, breaker.reason)
        if breaker.stops(app, MESSAGE_SEND.name):
            return en("DingTalk does not answer sanely: {}", breaker.reason)
    return ""


async def _month(settings: Settings, redis: Redis, app: str) -> str:
    limit, share = settings.quota.monthly_calls, SHARES[LANE]
    organisation = settings.apps[app].organisation if app in settings.apps else "default"
    used = await Quota(redis, settings).used(organisation)
    if limit is None or used < limit * share:
        return ""
    return en(
        "{:,} of {:,} calls of this month are used: campaigns stop at {:.0%}.", used, limit, share
    )


def _limit(row: CampaignRow, buckets: Sequence[BucketState], now: datetime) -> str:
    app_buckets = [
        bucket
        for bucket in buckets
        if (bucket.scope, bucket.api) == (f"app:{row.app}", MESSAGE_SEND.name)
    ]
    for bucket in app_buckets:
        if bucket.paused_until is not None and bucket.paused_until > now + BRIEF:
            return en("DingTalk throttles: it goes on at {}.", local(bucket.paused_until)[11:19])
    if row.rate is not None and pace.allowance(row, now).people <= 0:
        return en("It goes at its own rate: {:,} people a minute.", row.rate)
    for bucket in app_buckets:
        if bucket.limit and bucket.balance <= 0:
            limit = in_words(bucket.unit, bucket.limit, bucket.window)
            return en("It goes at the limit of the app: {}.", limit)
    return ""
