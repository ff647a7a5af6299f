"""Counts jobs that wait, and estimates their end at the present rates of the limits."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.lanes import Pause, pauses_in
from dingrelay_producers.store import keys, transitions
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.transitions import PAUSES
from dingrelay_tasks.approval_follow import ApprovalFollow
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.robot_names import ROBOTS
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.fleet_rules import FleetRules
from dingrelay_workers.limiter.overview import SCOPE, FleetPace


@script("dingrelay_workers.backlog", PAUSES)
def _tally(*, place: Key, first: int, last: int) -> None:
    """A part of the schedule, of the running jobs or of a queue's woken ones, by rank."""


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
        paused: wait for the end of a pause of their lane or sender.
        snoozed: wait for something else, such as the end of an outage or a delivery.
        retrying: failed, and are tried again.
        scheduled: are not to run yet, as requested.
        running: a worker has them.
        calls: that those which wait will make, about; without scheduled ones.
        recipients: of these calls, about.
        since: since when the oldest of those which wait does so; None if none waits.
        drain_seconds: of a whole lane, until those which wait are through, if no others come; None if unknown.
        held_by: why unknown: ``worker`` (none serves the lane), ``pause``, ``outage``, or empty (no limit is known).
    """

    app: str
    lane: str
    kind: str
    sender: str
    queue: str
    ready: int = 0
    parked: int = 0
    paused: int = 0
    snoozed: int = 0
    retrying: int = 0
    scheduled: int = 0
    running: int = 0
    calls: int = 0
    recipients: int = 0
    since: datetime | None = None
    drain_seconds: float | None = None
    held_by: str = ""

    @property
    def waiting(self) -> int:
        """Jobs that would run if they could."""
        return self.ready + self.parked + self.paused + self.snoozed + self.retrying

    def add(self, other: "BacklogGroup") -> None:
        """Count another group with this one."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        moments = [moment for moment in (self.since, other.since) if moment is not None]
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
    groups: dict[Name, BacklogGroup] = {}
    exact = True
    for place in places:
        exact = await _count(redis, place, most, groups) and exact
    return Tally(list(groups.values()), exact, datetime.fromtimestamp(seconds + micros / 1e6, UTC))


async def _count(redis: Redis, place: str, most: int, totals: dict[Name, BacklogGroup]) -> bool:
    """Add what stands in one place; whether all of it was looked at."""
    size = await redis.zcard(place)
    parts = -(-size // SLICE)
    looked_at = min(parts, max(1, most // SLICE))
    groups_of_place: dict[Name, BacklogGroup] = {}
    for number in range(looked_at):
        start = number * parts // looked_at * SLICE
        _, *groups = await run_async(
            redis, _tally(place=place, first=start, last=start + SLICE - 1)
        )
        for counted in groups:
            group = _group(counted)
            groups_of_place.setdefault(_name(group), BacklogGroup(*_name(group))).add(group)
    scale = parts / looked_at if looked_at else 1
    for name, group in groups_of_place.items():
        for count in COUNTS:
            setattr(group, count, round(getattr(group, count) * scale))
        totals.setdefault(name, BacklogGroup(*name)).add(group)
    return looked_at == parts


def _name(group: BacklogGroup) -> Name:
    return group.app, group.lane, group.kind, group.sender, group.queue


def _group(counted: Sequence[Any]) -> BacklogGroup:
    app, lane, kind, sender, queue = (name.decode(errors="replace") for name in counted[:5])
    group = BacklogGroup(app, lane, kind, sender, queue)
    for name, count in zip(COUNTS, counted[5:-1], strict=True):
        setattr(group, name, int(count))
    group.since = moment_of(counted[-1]) if counted[-1] else None
    if kind == ApprovalFollow.kind and group.waiting == group.snoozed:
        # Between two looks it waits for nothing, for as long as people take to decide.
        group.scheduled, group.snoozed, group.since = group.scheduled + group.snoozed, 0, None
        group.calls = group.recipients = 0
    return group


LANES: Sequence[Lane] = ("urgent", "normal", "bulk")
"""Ordered by priority."""

API_OF = {kind.name: kind.api for kind in KINDS.values() if kind.api}
"""Kind of job → the API that most of its calls are of. Of others no limit is known beforehand."""


async def read_pauses(redis: Redis) -> list[Pause]:
    """The lanes, and senders in them, that are paused, for whomever; the latest first."""
    return pauses_in(await run_async(redis, transitions.read_pauses()))


def is_seen(group: BacklogGroup) -> bool:
    """Whether the actor of the present task is shown these jobs; those of a whole lane, of all senders.

    All senders of an app wait for the same limit in a lane.
    """
    reach = current_reach()
    sender = group.sender if group.kind else reach.default_sender
    sees, fields = reach.sees(SCOPE), {"app": group.app, "lane": group.lane, "sender": sender}
    return all(value in sees.get(name, (value,)) for name, value in fields.items()) and (
        group.app == ROBOTS or reach.reaches(SCOPE, app=group.app, lane=group.lane, sender=sender)
    )


def backlogs(tally: Tally, pace: FleetPace, served: Collection[str]) -> list[BacklogGroup]:
    """The jobs of each lane of each application, counted over all kinds and senders.

    Args:
        tally: what is open.
        pace: how fast calls leave.
        served: queues that have a worker.
    """
    rules, buckets, breakers = pace
    rates = _Rates(rules, buckets, tally.now)
    lanes: list[BacklogGroup] = []
    of_app: dict[str, list[BacklogGroup]] = {}
    for group in tally.groups:
        of_app.setdefault(group.app, []).append(group)
    for app, groups_of_app in sorted(of_app.items()):
        for lane in LANES:
            groups = [group for group in groups_of_app if group.lane == lane]
            if not groups:
                continue
            jobs = BacklogGroup(app, lane, "", "", "")
            for group in groups:
                jobs.add(group)
            waiting = [group for group in groups if group.waiting]
            apis = {API_OF[group.kind] for group in waiting if group.kind in API_OF}
            if any(group.queue not in served for group in waiting):
                jobs.held_by = "worker"
            elif jobs.waiting and jobs.paused == jobs.waiting:
                jobs.held_by = "pause"
            elif waiting and any(
                breaker.stops(app, api) for breaker in breakers for api in ("", *apis)
            ):
                jobs.held_by = "outage"
            else:
                ahead = [
                    group for group in groups_of_app if group.lane in LANES[: LANES.index(lane) + 1]
                ]
                jobs.drain_seconds = _drain(app, waiting, apis, ahead, rates)
            lanes.append(jobs)
    return lanes


def _drain(
    app: str,
    waiting: Sequence[BacklogGroup],
    apis: Collection[str],
    ahead: Sequence[BacklogGroup],
    rates: "_Rates",
) -> float | None:
    """Seconds until what waits is through, behind what goes first; None where no limit is known."""
    if not waiting:
        return 0.0
    drains = [
        seconds
        for api in apis
        if (
            seconds := rates.seconds(
                app, api, [group for group in ahead if API_OF.get(group.kind) == api]
            )
        )
        is not None
    ]
    return max(drains, default=None)


class _Rates:
    """How fast calls of an API leave by now."""

    def __init__(self, rules: FleetRules, buckets: Sequence[BucketState], now: datetime) -> None:
        self._rules = rules
        self._now = now
        self._states = {(bucket.scope, bucket.api, bucket.unit): bucket for bucket in buckets}

    def seconds(self, app: str, api: str, groups: Sequence[BacklogGroup]) -> float | None:
        """How long these take, with the pause that there is; None without a limit."""
        amounts = {
            "calls": sum(group.calls for group in groups),
            "recipients": sum(group.recipients for group in groups),
        }
        longest: float | None = None
        pause = 0.0
        for rule in self._rules.of(app, api):
            state = self._states.get((rule.scope, rule.api, rule.unit))
            if state is not None and state.paused_until is not None:
                pause = max(pause, (state.paused_until - self._now).total_seconds())
            rate = state.rate if state is not None and state.limit else rule.top
            if rate > 0:
                longest = max(longest or 0.0, amounts[rule.unit] / rate)
        return None if longest is None and not pause else (longest or 0.0) + pause


STATES = ("ready", "parked", "paused", "snoozed", "retrying", "scheduled", "running")
"""The states in which open jobs are counted."""


async def read(
    redis: Redis, pace: FleetPace, *, most: int = MOST
) -> tuple[Tally, list[BacklogGroup]]:
    """The open jobs, and what waits in each lane.

    Args:
        redis: of the fleet.
        pace: how fast calls leave.
        most: jobs of a place that are looked at.

    Raises:
        RedisError: Redis cannot be reached.
    """
    counted = await tally(redis, most=most)
    queues = sorted({group.queue for group in counted.groups})
    alive: list[Any] = await redis.mget([keys.alive(queue) for queue in queues]) if queues else []
    served = {queue for queue, sign in zip(queues, alive, strict=True) if sign is not None}
    return counted, backlogs(counted, pace, served)
