"""Waiting jobs of the whole fleet, for the command line and for the metrics."""

from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_workers.backlog.estimate import Backlog, backlogs
from dingrelay_workers.backlog.tally import MOST, Tally, tally
from dingrelay_workers.limiter import breakers, buckets, fleet_rules
from dingrelay_workers.limiter.rules import Rules

STATES = ("ready", "parked", "snoozed", "retrying", "scheduled", "running")
"""The states in which open jobs are counted."""


async def read(redis: Redis, own: Rules, *, most: int = MOST) -> tuple[Tally, list[Backlog]]:
    """The open jobs, and what waits in each lane.

    Args:
        redis: of the fleet.
        own: rules that stand in where no worker has published its own.
        most: jobs of a place that are looked at.

    Raises:
        RedisError: Redis cannot be reached.
    """
    counted = await tally(redis, most=most)
    rules = await fleet_rules.read(redis, own)
    states = await buckets.states(redis, rules)
    queues = sorted({group.queue for group in counted.groups})
    alive: list[Any] = await redis.mget([keys.alive(queue) for queue in queues]) if queues else []
    served = {queue for queue, sign in zip(queues, alive, strict=True) if sign is not None}
    return counted, backlogs(counted, rules, states, await breakers.states(redis), served)
