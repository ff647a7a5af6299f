"""All limits of the fleet: one document for the command line and for HTTP."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from pydantic import BaseModel
from redis.asyncio import Redis

from dingrelay_producers.actor import current_reach
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_workers import minutes
from dingrelay_workers.limiter import breakers, buckets, fleet_rules
from dingrelay_workers.limiter.breakers import BreakerState, EndedOutage
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.fleet_rules import Difference, FleetRules
from dingrelay_workers.limiter.quota import MonthCount, Quota
from dingrelay_workers.limiter.rules import EGRESS, Rules

SCOPE = "limits:read"


class PublishedRules(BaseModel):
    """The rules that are shown, and their workers."""

    workers: int
    """How many workers have published theirs; 0: they are those of the settings here."""
    differences: list[Difference]


class FleetLimits(BaseModel):
    """How full the limits are."""

    rules: PublishedRules
    buckets: list[BucketState]
    outages: list[BreakerState]
    """APIs and hosts that are out, and apps that are held."""
    ended_outages: list[EndedOutage] = []
    """Outages that ended in the last 24 hours, the latest first, twenty at most."""
    quota: list[MonthCount]

    def of_actor(self, settings: Settings) -> Self:
        """The limits of the apps that the actor of the present task sees, and those that all apps share."""
        reach = current_reach()
        if reach.apps_of(SCOPE) is None:
            return self

        def sees(scope: str) -> bool:
            kind, _, app = scope.partition(":")
            return kind == EGRESS or reach.reaches_app(SCOPE, app)

        organisations = {
            app.organisation
            for name, app in settings.apps.items()
            if reach.reaches_app(SCOPE, name)
        }
        return self.model_copy(
            update={
                "buckets": [bucket for bucket in self.buckets if sees(bucket.scope)],
                "outages": [entry for entry in self.outages if sees(entry.scope)],
                "ended_outages": [entry for entry in self.ended_outages if sees(entry.scope)],
                "quota": [month for month in self.quota if month.organisation in organisations],
            }
        )


class FleetPace(NamedTuple):
    """The pace of calls: the rules of the workers, buckets in use, open breakers and holds."""

    rules: FleetRules
    buckets: Sequence[BucketState]
    breakers: Sequence[BreakerState]


async def read_pace(redis: Redis, settings: Settings) -> FleetPace:
    """How fast calls leave by now.

    Args:
        redis: of the fleet.
        settings: of this process, whose rules stand in where no worker has published its own.

    Raises:
        SettingsError: a rule in the settings can't be read.
        RedisError: Redis cannot be reached.
    """
    fallback = Rules.from_settings(settings.limits, settings.egress)
    rules = await fleet_rules.read(redis, fallback)
    return FleetPace(
        rules, await buckets.read_buckets(redis, rules), await breakers.read_breakers(redis)
    )


async def read(redis: Redis, settings: Settings, pace: FleetPace | None = None) -> FleetLimits:
    """All limits, and the calls of the month.

    Args:
        redis: of the fleet.
        settings: of this process.
        pace: as it was just read.

    Raises:
        ValueError: a rule in the settings can't be read.
        RedisError: Redis cannot be reached.
    """
    rules, states, outages = pace or await read_pace(redis, settings)
    names = [keys.bucket(state.scope, state.api, state.unit) for state in states]
    minutes_taken = await minutes.read(redis, names)
    return FleetLimits(
        rules=PublishedRules(workers=rules.workers, differences=[*rules.differences]),
        buckets=[
            replace(state, minutes=minutes_taken[name])
            for state, name in zip(states, names, strict=True)
        ],
        outages=[*outages],
        ended_outages=await breakers.read_ended(redis),
        quota=await Quota(redis, settings).months(),
    )
