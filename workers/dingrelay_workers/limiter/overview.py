"""All limits of the fleet as JSON values, for the command line and for HTTP."""

from dataclasses import asdict
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.json_values import json_values
from dingrelay_producers.settings import Settings
from dingrelay_workers.limiter import breakers, buckets, fleet_rules
from dingrelay_workers.limiter.breakers import BreakerState
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.rules import Rules


async def read(redis: Redis, settings: Settings) -> dict[str, Any]:
    """The rules of the workers, buckets in use, open breakers and holds, and the calls of the month.

    Raises:
        ValueError: a rule in the settings can't be read.
        RedisError: Redis cannot be reached.
    """
    rules = await fleet_rules.read(redis, Rules.from_settings(settings.rules, settings.egress))
    organisations = sorted({app.organisation for app in settings.apps.values()} or {"default"})
    quota = Quota(redis, settings)
    return {
        "rules": {
            "workers": rules.workers,
            "differences": [asdict(each) for each in rules.differences],
        },
        "buckets": [_fields(state) for state in await buckets.states(redis, rules)],
        "outages": [_fields(state) for state in await breakers.states(redis)],
        "quota": [
            {
                "organisation": name,
                "used": await quota.used(name),
                "limit": settings.quota.monthly_calls,
            }
            for name in organisations
        ],
    }


def _fields(state: BucketState | BreakerState) -> dict[str, Any]:
    fields: dict[str, Any] = json_values(state)
    return fields
