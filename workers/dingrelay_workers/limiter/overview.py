"""All limits of the fleet: one document for the command line and for HTTP."""

from pydantic import BaseModel
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_workers.limiter import breakers, buckets, fleet_rules
from dingrelay_workers.limiter.breakers import BreakerState
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.fleet_rules import Difference
from dingrelay_workers.limiter.quota import MonthCount, Quota
from dingrelay_workers.limiter.rules import Rules


class PublishedRules(BaseModel):
    """Whose rules are shown."""

    workers: int
    """How many workers have published theirs; 0: they are those of the settings here."""
    differences: list[Difference]


class FleetLimits(BaseModel):
    """How full the limits are."""

    rules: PublishedRules
    buckets: list[BucketState]
    outages: list[BreakerState]
    """APIs and hosts that are out, and apps that are held."""
    quota: list[MonthCount]


async def read(redis: Redis, settings: Settings) -> FleetLimits:
    """The rules of the workers, buckets in use, open breakers and holds, and the calls of the month.

    Raises:
        ValueError: a rule in the settings can't be read.
        RedisError: Redis cannot be reached.
    """
    rules = await fleet_rules.read(redis, Rules.from_settings(settings.limits, settings.egress))
    return FleetLimits(
        rules=PublishedRules(workers=rules.workers, differences=[*rules.differences]),
        buckets=[*await buckets.read_buckets(redis, rules)],
        outages=[*await breakers.read_breakers(redis)],
        quota=await Quota(redis, settings).months(),
    )
