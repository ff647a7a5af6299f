"""Token buckets in Redis, shared by the fleet: the scripts behind typed functions.

The functions make a `Call` without touching Redis. Each takes the time (µs), which is None
but in tests: a script reads the server's own clock, so that no worker's clock matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis

from dingrelay_producers.store.keys import BUCKET_TTL_MS, BUCKETS, PREFIX, breaker, places
from dingrelay_producers.store.scripts import Call, Script, Value, run_async
from dingrelay_tasks.contract import Lane
from dingrelay_workers.limiter.breakers import Pace
from dingrelay_workers.limiter.rules import Rule, Rules

_PACKAGE = "dingrelay_workers.limiter"
ACQUIRE = Script.load(_PACKAGE, "clock", "breakers", "acquire")
PARK = Script.load(_PACKAGE, "clock", "reserve_slot")
PENALIZE = Script.load(_PACKAGE, "clock", "penalize")
CHARGE = Script.load(_PACKAGE, "clock", "charge")
SUCCEED = Script.load(_PACKAGE, "clock", "succeed")

MICRO = 1_000_000

NO_CIRCUIT = tuple(breaker("none", name) for name in ("api", "host", "hold"))
"""Breakers that nobody opens, for a call that passes none."""
ALL_HEARD = (1, 0)
"""For calls of whose answers the buckets are not told."""
USUAL = Pace(beat=1.0, hold=60.0, call=15.0)
FOR_EVER = 1e9
"""Seconds; for a call that is never parked."""

ParkedQueue = Literal["tail", "again"]
"""Where a job is parked: behind the new ones, or behind those that came back too early."""


class Ask(NamedTuple):
    """What one waiter wants.

    Attributes:
        costs: one for each rule, in their order.
        aged: it has waited so long that it may reserve a slot whatever its lane.
    """

    costs: tuple[int, ...]
    aged: bool = False


class Heard:
    """Sane answers of one API that came to this process and that the fleet has not been told of.

    The next question carries them, so that they cost no round trip of their own.
    """

    __slots__ = ("answers", "slowest")

    def __init__(self) -> None:
        self.answers = 0
        self.slowest = 0.0

    def add(self, seconds: float) -> None:
        """One answer came after so many seconds."""
        self.answers += 1
        self.slowest = max(self.slowest, seconds)

    def take(self) -> tuple[int, int]:
        """How many there were and the microseconds of the slowest; from here on they are told."""
        told = self.answers, round(self.slowest * MICRO)
        self.answers, self.slowest = 0, 0.0
        return told


@dataclass(frozen=True, slots=True)
class Reply:
    """What the buckets say.

    Attributes:
        starts: for each of the first waiters, seconds until its call may leave.
        wait: seconds after which to ask again for the first waiter that got no slot.
        probing: the granted call comes out of a pause; how it is answered must be told.
        paused: a throttling answer has paused one of the buckets.
        saturated: somebody had to wait, not only for the end of a pause.
        tail: seconds until the last job parked in this lane is due.
        slot: seconds that one call like the last one considered takes up.
        reason: of the pause, or of the outage.
        sick: the fleet waits for a sane answer, which must be told.
        trial: the granted call probes a breaker that stands open.
        outage: which one stands open and lets nothing leave: ``api``, ``host`` or ``hold``.
    """

    starts: tuple[float, ...]
    wait: float
    probing: bool
    paused: bool
    saturated: bool
    tail: float
    slot: float
    reason: str
    sick: bool = False
    trial: bool = False
    outage: str = ""

    @classmethod
    def read(cls, answer: Any) -> "Reply":
        """The answer of the script."""
        starts, wait, probing, paused, saturated, tail, slot, reason, sick, trial, outage = answer
        return cls(
            starts=tuple(start / MICRO for start in starts),
            wait=wait / MICRO,
            probing=bool(probing),
            paused=bool(paused),
            saturated=bool(saturated),
            tail=tail / MICRO,
            slot=slot / MICRO,
            reason=reason.decode(),
            sick=bool(sick),
            trial=bool(trial),
            outage=outage.decode(),
        )


@dataclass(frozen=True, slots=True)
class BucketState:
    """One bucket as it stands.

    Attributes:
        scope: ``app:NAME`` or ``egress:NAME``.
        limit: None where there is no limit, only penalties.
        window: seconds.
        rate: units a second by now.
        ceiling: units a second beyond which calls were refused; None where that is not known.
        balance: tokens that are there; below zero where coming slots are reserved.
        paused_until: end of the pause; None if there is none.
        reason: of the last pause.
        level: how often the pause was doubled, plus one; 0 without a recent throttle.
        throttles: throttling answers since the bucket is there.
        horizon: when the last parked job is due; None if none is parked.
    """

    scope: str
    api: str
    unit: str
    limit: int | None
    window: float
    rate: float
    ceiling: float | None
    balance: float
    paused_until: datetime | None
    reason: str
    level: int
    throttles: int
    horizon: datetime | None


def acquire(
    rules: Sequence[Rule],
    lane: Lane,
    asks: Sequence[Ask],
    now: int | None = None,
    *,
    circuit: Sequence[str] = NO_CIRCUIT,
    pace: Pace = USUAL,
    heard: tuple[int, int] = ALL_HEARD,
    max_wait: float = FOR_EVER,
    index: str = BUCKETS,
) -> Call:
    """Reserve slots for as many of the first waiters as can have one. Answer: `Reply`.

    No waiters at all only asks whether a bucket is paused. `circuit` are the keys of the breakers
    before the call, `heard` what `Heard.take` says. A slot more than `max_wait` seconds away is
    reserved for urgent calls and for those that are aged only. `index` is where the buckets are
    listed.
    """
    arguments: list[Value] = [_time(now), lane, BUCKET_TTL_MS, len(asks)]
    arguments += (pace.longest, pace.micros[2], *heard, pace.quiet, pace.timeout)
    arguments.append(int(max_wait * MICRO))
    for rule in rules:
        sibling = int(not rule.scope.startswith("egress:"))
        arguments += (rule.burst, rule.rate, rule.top, rule.window, sibling)
    for ask in asks:
        arguments += (int(ask.aged), *ask.costs)
    return ACQUIRE.call([*(rule.key for rule in rules), index, *circuit], arguments)


def park(
    rules: Sequence[Rule],
    lane: Lane,
    costs: Sequence[int],
    queue: ParkedQueue,
    sender: str,
    now: int | None = None,
    *,
    place: str = "",
    recipients: int = 0,
) -> Call:
    """Find a job its place behind its sender's. Answer: µs until then, reason of a pause.

    `sender` must tell senders of different apps apart: they share the address's rule. `place` is
    the key of a place that the job may share, where it adds so many recipients.
    """
    name = f"{queue}:{lane}"
    arguments: list[Value] = [_time(now), name, BUCKET_TTL_MS, sender]
    for rule, cost in zip(rules, costs, strict=True):
        arguments += (rule.burst, rule.rate, rule.top, cost)
    arguments += (place, recipients)
    keys = [rule.key for rule in rules]
    return PARK.call([*keys, *(places(key, name) for key in keys)], arguments)


def penalize(rule: Rule, pause: float, reason: str, spread: float, now: int | None = None) -> Call:
    """Judge a throttling answer. Answer: µs of pause left, 0 for none; whether this one caused it.

    Args:
        rule: whose bucket it is about.
        pause: seconds that the answer asks for; repeats make it longer.
        reason: one short phrase.
        spread: seconds between the shortest and the longest way of a call to DingTalk.
        now: the time (µs), in tests.
    """
    arguments: list[Value] = [_time(now), BUCKET_TTL_MS, int(pause * MICRO), reason]
    arguments += [rule.rate, rule.top, rule.window, spread]
    return PENALIZE.call([rule.key, BUCKETS], arguments)


def succeed(rules: Sequence[Rule], now: int | None = None) -> Call:
    """A probe was not throttled: open its buckets. No answer."""
    return SUCCEED.call([rule.key for rule in rules], [_time(now)])


def charge(rule: Rule, cost: int, now: int | None = None) -> Call:
    """Take so much from a bucket, whether it is there or not. No answer."""
    return CHARGE.call([rule.key], [_time(now), BUCKET_TTL_MS, rule.burst, rule.rate, cost])


async def ask(
    redis: Redis,
    rules: Sequence[Rule],
    lane: Lane,
    asks: Sequence[Ask],
    *,
    circuit: Sequence[str] = NO_CIRCUIT,
    pace: Pace = USUAL,
    heard: tuple[int, int] = ALL_HEARD,
    max_wait: float = FOR_EVER,
) -> Reply:
    """One round trip to the buckets; `acquire` tells what is asked."""
    call = acquire(rules, lane, asks, circuit=circuit, pace=pace, heard=heard, max_wait=max_wait)
    return Reply.read(await run_async(redis, call))


async def states(redis: Redis, rules: Rules) -> list[BucketState]:
    """Every bucket in use whose rule is known, by key."""
    members: list[Any] = await redis.zrange(BUCKETS, 0, -1)
    names = sorted(name.decode() for name in members)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for name in names:
            pipe.hgetall(name)
        (seconds, micros), *hashes = await pipe.execute()
    now = seconds * MICRO + micros
    found: list[BucketState] = []
    for name, fields in zip(names, hashes, strict=True):
        scope, api, unit = name.removeprefix(f"{PREFIX}bucket:").rsplit(":", 2)
        rule = rules.find(scope, api, unit)
        if rule is not None and fields:
            texts = {key.decode(): value.decode() for key, value in fields.items()}
            found.append(_state(rule, texts, now))
    return found


def _state(rule: Rule, fields: dict[str, str], now: int) -> BucketState:
    def number(name: str, default: float = 0) -> float:
        return float(fields.get(name, default))

    rate = number("rate", rule.rate) if rule.adaptive else rule.rate
    elapsed = max(0.0, now - number("at", now)) / MICRO
    horizon = max((number(name) for name in fields if name.startswith("tail:")), default=0)
    return BucketState(
        scope=rule.scope,
        api=rule.api,
        unit=rule.unit,
        limit=rule.limit,
        window=rule.window,
        rate=rate,
        ceiling=number("ceiling") or None,
        balance=min(float(rule.burst), number("balance", rule.burst) + elapsed * rate),
        paused_until=_moment(number("paused"), now),
        reason=fields.get("reason", ""),
        level=int(number("level")),
        throttles=int(number("throttles")),
        horizon=_moment(horizon, now),
    )


def _moment(micros: float, now: int) -> datetime | None:
    return datetime.fromtimestamp(micros / MICRO, UTC) if micros > now else None


def _time(now: int | None) -> Value:
    return "" if now is None else now
