"""How many jobs wait, as Redis has them now: all of them, or a sample of very many."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import moment_of, transition
from dingrelay_producers.store.scripts import run_async

_TALLY = transition("dingrelay_workers.backlog", "tally")

SLICE = 500
"""Jobs that one script looks at: a few milliseconds of Redis's time."""
MOST = 100_000
"""Jobs of a place that are looked at one by one; of more a sample, evenly from its beginning to its end."""


@dataclass(slots=True)
class BacklogGroup:
    """Open jobs that have application, lane, kind, sender and queue in common.

    Attributes:
        ready: nothing keeps them but that others go first.
        parked: wait for their turn at a limit.
        snoozed: wait for something else, such as the end of an outage or a delivery.
        retrying: failed, and are tried again.
        scheduled: are not to run yet, as requested.
        running: a worker has them.
        calls: that those which wait will make, about; without scheduled ones.
        recipients: of these calls, about.
        since: since when the oldest of those which wait does so; None if none waits.
    """

    app: str
    lane: str
    kind: str
    sender: str
    queue: str
    ready: int = 0
    parked: int = 0
    snoozed: int = 0
    retrying: int = 0
    scheduled: int = 0
    running: int = 0
    calls: int = 0
    recipients: int = 0
    since: datetime | None = None

    @property
    def waiting(self) -> int:
        """Jobs that would run if they could."""
        return self.ready + self.parked + self.snoozed + self.retrying

    def add(self, other: "BacklogGroup") -> None:
        """Count another group with this one."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        moments = [each for each in (self.since, other.since) if each is not None]
        self.since = min(moments, default=None)


Name = tuple[str, str, str, str, str]
"""Application, lane, kind, sender and queue."""

COUNTS = tuple(field.name for field in fields(BacklogGroup) if field.type is int)


@dataclass(frozen=True, slots=True)
class Tally:
    """The open jobs.

    Attributes:
        groups: of them.
        exact: all were looked at; the counts are projected from a sample otherwise.
        now: the time of Redis's clock.
    """

    groups: Sequence[BacklogGroup]
    exact: bool
    now: datetime


async def tally(redis: Redis, *, most: int = MOST) -> Tally:
    """Count open jobs. Jobs that move during the count may be counted twice or not at all.

    Args:
        redis: where the jobs are.
        most: jobs of a place that are looked at.

    Raises:
        RedisError: Redis cannot be reached.
    """
    seconds, micros = await redis.time()
    queues: Any = await redis.smembers(keys.QUEUES)
    places = [keys.SCHEDULE, keys.RUNNING, *sorted(keys.woken(name.decode()) for name in queues)]
    found: dict[Name, BacklogGroup] = {}
    exact = True
    for place in places:
        exact = await _count(redis, place, most, found) and exact
    return Tally(list(found.values()), exact, datetime.fromtimestamp(seconds + micros / 1e6, UTC))


async def _count(redis: Redis, place: str, most: int, found: dict[Name, BacklogGroup]) -> bool:
    """Add what stands in one place; whether all of it was looked at."""
    size = await redis.zcard(place)
    parts = -(-size // SLICE)
    looked_at = min(parts, max(1, most // SLICE))
    here: dict[Name, BacklogGroup] = {}
    for number in range(looked_at):
        start = number * parts // looked_at * SLICE
        _, *groups = await run_async(redis, _TALLY.call([place], [start, start + SLICE - 1]))
        for counted in groups:
            group = _group(counted)
            here.setdefault(_name(group), BacklogGroup(*_name(group))).add(group)
    scale = parts / looked_at if looked_at else 1
    for name, group in here.items():
        for count in COUNTS:
            setattr(group, count, round(getattr(group, count) * scale))
        found.setdefault(name, BacklogGroup(*name)).add(group)
    return looked_at == parts


def _name(group: BacklogGroup) -> Name:
    return group.app, group.lane, group.kind, group.sender, group.queue


def _group(counted: Sequence[Any]) -> BacklogGroup:
    app, lane, kind, sender, queue = (each.decode(errors="replace") for each in counted[:5])
    group = BacklogGroup(app, lane, kind, sender, queue)
    for name, count in zip(COUNTS, counted[5:-1], strict=True):
        setattr(group, name, int(count))
    group.since = moment_of(counted[-1]) if counted[-1] else None
    return group
