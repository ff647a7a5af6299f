"""Token buckets in Redis, shared by the fleet: the scripts behind typed functions.

The functions make a `Call` without touching Redis. Each takes the time (µs), which is None
but in tests: a script reads the server's own clock, so that no worker's clock matters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis

from dingrelay_producers.store.keys import (
    BUCKET_TTL_MS,
    BUCKETS,
    PREFIX,
    SICK_TTL_MS,
    breaker,
)
from dingrelay_producers.store.scripts import Call, run_async
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.sentence import from_text
from dingrelay_workers.limiter import transitions
from dingrelay_workers.limiter.breakers import Pace
from dingrelay_workers.limiter.fleet_rules import FleetRules
from dingrelay_workers.limiter.rules import EGRESS, Rule, Rules
from dingrelay_workers.limiter.slot import ParkedTotal, Turns, parked
from dingrelay_workers.limiter.transitions import CallLimit, SlotWaiter, limits_of
from dingrelay_workers.minutes import MINUTES

MICRO = 1_000_000

NO_CIRCUIT = tuple(breaker("none", name) for name in ("api", "host", "hold"))
"""Breakers that are never opened, for a call that passes none."""
ALL_REPORTED = (1, 0)
"""Statistics of calls whose answers are not reported to the buckets."""
NO_TURNS = Turns("none", "none", "normal")
"""A lane that is always empty, for a call that is never parked."""
USUAL = Pace(beat=1.0, hold=60.0, call=15.0)
HEAD_START = 15.0
"""Seconds that a climb seems to have lasted when a breaker closes: in 5 s the rate is back."""
FOR_EVER = 1e9
"""Seconds; for a call that is never parked."""


class Ask(NamedTuple):
    """The slot that one waiter wants.

    Attributes:
        costs: one for each rule, in their order.
        aged: it has waited so long that it may reserve a slot whatever its lane.
        woken: its job, if that was parked and woken for this call: its sender had its turn then.
        sender: who asks.
    """

    costs: tuple[int, ...]
    aged: bool = False
    woken: str = ""
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The buckets' answer.

    Attributes:
        starts: for each of the first waiters, seconds until its call may leave.
        wait: seconds after which to ask again for the first waiter that got no slot.
        probing: the granted call comes out of a pause; how it is answered must be reported.
        voids: how often the slots that were given out of these buckets were voided, by a pause or a late call.
        parked: senders that have jobs parked in this lane.
        slot: seconds that one call like the last one considered takes up.
        reason: of the pause, or of the outage.
        sick: the fleet waits for a sane answer, which must be reported.
        trial: the granted call probes a breaker that stands open.
        outage: which one stands open and lets nothing leave: ``api``, ``host`` or ``hold``.
    """

    starts: tuple[float, ...]
    wait: float
    probing: bool
    voids: int
    parked: int
    slot: float
    reason: str
    sick: bool = False
    trial: bool = False
    outage: str = ""

    @classmethod
    def read(cls, answer: Any) -> "Reply":
        """The answer of the script."""
        starts, wait, probing, voids, parked, slot, reason, sick, trial, outage = answer
        return cls(
            starts=tuple(start / MICRO for start in starts),
            wait=wait / MICRO,
            probing=bool(probing),
            voids=voids,
            parked=parked,
            slot=slot / MICRO,
            reason=from_text(reason.decode()),
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
        horizon: when the parked jobs are through at the present rate, if no others come; None if
            none is parked. Only calls have one.
        waiting: jobs that are parked, in all lanes and of all senders.
        minutes: what calls took of it in each of the last minutes, the present one last.
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
    waiting: int
    minutes: Sequence[int] = ()


def acquire(
    rules: Sequence[Rule],
    lane: Lane,
    asks: Sequence[Ask],
    now: int | None = None,
    *,
    circuit: Sequence[str] = NO_CIRCUIT,
    pace: Pace = USUAL,
    unreported: tuple[int, int] = ALL_REPORTED,
    max_wait: float = FOR_EVER,
    index: str = BUCKETS,
    turns: Turns = NO_TURNS,
) -> Call:
    """Reserve slots for as many of the first waiters as can have one. Answer: `Reply`.

    No waiters at all only asks whether a bucket is paused. `circuit` are the keys of the breakers
    before the call, `unreported` what `SaneAnswers.take` gives. A slot more than `max_wait` seconds away is
    reserved for urgent calls and for those that are aged only. `index` is where the buckets are
    listed, `turns` the lane in which the senders take turns.
    """
    api, host, app = circuit
    answers, slowest = unreported
    return transitions.acquire(
        index=index,
        api=api,
        host=host,
        app=app,
        turns=turns.key,
        in_turn=turns.in_turn,
        buckets=[rule.key for rule in rules],
        time_us=now,
        lane=lane,
        ttl=BUCKET_TTL_MS,
        longest=pace.longest,
        probe_timeout=pace.micros[2],
        answers=answers,
        slowest=slowest,
        quiet=pace.quiet,
        timeout=pace.timeout,
        max_wait=max_wait,
        limits=[
            CallLimit(rule.burst, rule.rate, rule.top, not rule.scope.startswith("egress:"))
            for rule in rules
        ],
        waiters=[SlotWaiter(ask.aged, ask.woken, ask.sender) for ask in asks],
        costs=[cost for ask in asks for cost in ask.costs],
    )


def park(
    rules: Sequence[Rule],
    turns: Turns,
    costs: Sequence[int],
    sender: str,
    now: int | None = None,
    *,
    woken: str = "",
    shared: str = "",
    recipients: int = 0,
) -> Call:
    """Guess when a job has its turn. Answer: us until then, reason of a pause, what the sender has had.

    Args:
        rules: that its call falls under.
        turns: the lane in which its sender takes turns.
        costs: of its call, one for each rule.
        sender: who asks.
        now: the time (us), in tests.
        woken: the job, if it was woken for a call that it did not make.
        shared: the key of what is known of jobs of its content; empty if it goes alone.
        recipients: that it adds to a call that it shares.
    """
    return transitions.park(
        turns=turns.key,
        in_turn=turns.in_turn,
        parked=turns.parked(sender),
        buckets=[rule.key for rule in rules],
        lane=turns.lane,
        time_us=now,
        sender=sender,
        ttl=BUCKET_TTL_MS,
        woken=woken or None,
        shared=shared or None,
        recipients=recipients,
        limits=limits_of(rules),
        costs=costs,
    )


def penalize(rule: Rule, pause: float, reason: str, spread: float, now: int | None = None) -> Call:
    """Judge a throttling answer. Answer: µs of pause left, 0 for none; whether this one caused it.

    Args:
        rule: whose bucket it is about.
        pause: seconds that the answer asks for; repeats make it longer.
        reason: one short phrase.
        spread: seconds between the shortest and the longest way of a call to DingTalk.
        now: the time (µs), in tests.
    """
    return transitions.penalize(
        bucket=rule.key,
        index=BUCKETS,
        time_us=now,
        ttl=BUCKET_TTL_MS,
        pause=int(pause * MICRO),
        reason=reason,
        first=rule.rate,
        top=rule.top,
        window=rule.window,
        spread=spread,
    )


def ended(
    rules: Sequence[Rule],
    now: int | None = None,
    *,
    circuit: Sequence[str] = NO_CIRCUIT,
    probed: bool = False,
    sane: bool = False,
    trial: bool = False,
    charged: tuple[Rule, float] | None = None,
) -> Call:
    """A call is over. Answer: which breakers have closed.

    Args:
        rules: that it fell under.
        now: the time (us), in tests.
        circuit: the breakers before it.
        probed: it came out of a pause and was not throttled: its buckets open.
        sane: its answer was: the breakers close.
        trial: it was their probe.
        charged: a rule of which it takes so much once more, whether that is there or not.
    """
    calls = rules[0]
    rule, tokens = charged or (calls, 0)
    api, host, hold = circuit
    return transitions.ended(
        api=api,
        host=host,
        hold=hold,
        buckets=[rule.key for rule in rules],
        time_us=now,
        probed=probed,
        sane=sane,
        trial=trial,
        top=calls.top if calls.top > calls.rate else 0,
        head_start=round(HEAD_START * MICRO),
        remembered=SICK_TTL_MS,
        charged=rules.index(rule) + 1 if charged else None,
        tokens=tokens,
        burst=rule.burst,
        rate=rule.rate,
        ttl=BUCKET_TTL_MS,
    )


def costs(rules: Sequence[Rule], recipients: int) -> tuple[int, ...]:
    """A call's cost under each rule."""
    return tuple(recipients if rule.unit == "recipients" else 1 for rule in rules)


def count_taken(rules: Sequence[Rule], recipients: int) -> None:
    """Count in this minute what a call takes of each rule."""
    for rule, cost in zip(rules, costs(rules, recipients), strict=True):
        MINUTES.count(rule.key, cost)


async def ask(redis: Redis, call: Call) -> Reply:
    """One round trip to the buckets, with a call of `acquire`."""
    return Reply.read(await run_async(redis, call))


async def read_buckets(redis: Redis, rules: Rules | FleetRules) -> list[BucketState]:
    """Every bucket in use whose rule is known, by key."""
    members: list[Any] = await redis.zrange(BUCKETS, 0, -1)
    names = sorted(name.decode() for name in members)
    now, hashes = await _read_hashes(redis, names)
    waiting = await parked(redis)
    states: list[BucketState] = []
    for name, fields in zip(names, hashes, strict=True):
        scope, api, unit = name.removeprefix(f"{PREFIX}bucket:").rsplit(":", 2)
        rule = rules.find(scope, api, unit)
        if rule is not None and fields:
            states.append(_state(rule, fields, now))
    by_name = {(state.scope, state.api, state.unit): state for state in states}
    for (app, api), jobs in waiting.items():
        calls = by_name.get((f"app:{app}", api, "calls"))
        if calls is not None and jobs.jobs:
            recipients = by_name.get((f"app:{app}", api, "recipients"))
            by_name[calls.scope, api, "calls"] = _waited_for(calls, recipients, jobs, now)
    return list(by_name.values())


async def calls_of_all(redis: Redis) -> list[str]:
    """Keys of the buckets that each call takes from, whatever its app and API: one for each address."""
    members: list[Any] = await redis.zrange(BUCKETS, 0, -1)
    return [
        name for name in map(bytes.decode, members) if name.startswith(f"{PREFIX}bucket:{EGRESS}:")
    ]


async def read_waits(redis: Redis, rules: Sequence[Rule]) -> list[float]:
    """Seconds until a call could leave under each of these rules, as its bucket stands."""
    now, hashes = await _read_hashes(redis, [rule.key for rule in rules])
    waits: list[float] = []
    for rule, fields in zip(rules, hashes, strict=True):
        state = _state(rule, fields, now)
        wait = max(0.0, 1 - state.balance) / state.rate if state.rate else 0.0
        waits.append(max(wait, (float(fields.get("paused", 0)) - now) / MICRO))
    return waits


async def _read_hashes(redis: Redis, names: Sequence[str]) -> tuple[int, list[dict[str, str]]]:
    """Redis's time (us), and the fields of these buckets then."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for name in names:
            pipe.hgetall(name)
        (seconds, micros), *hashes = await pipe.execute()
    texts = [{key.decode(): value.decode() for key, value in fields.items()} for fields in hashes]
    return seconds * MICRO + micros, texts


def _waited_for(
    calls: BucketState, recipients: BucketState | None, jobs: ParkedTotal, now: int
) -> BucketState:
    """A bucket of calls with the jobs that are parked for it."""
    begins, seconds = now, 0.0
    for state, amount in ((calls, jobs.calls), (recipients, jobs.recipients)):
        if state is None:
            continue
        if state.paused_until is not None:
            begins = max(begins, round(state.paused_until.timestamp() * MICRO))
        if state.limit and state.rate > 0:
            seconds = max(seconds, amount / state.rate)
    through = max(begins + seconds * MICRO, now + 1)
    return replace(calls, waiting=jobs.jobs, horizon=_moment(through, now))


def _state(rule: Rule, fields: dict[str, str], now: int) -> BucketState:
    def number(name: str, default: float = 0) -> float:
        return float(fields.get(name, default))

    rate = number("rate", rule.rate) if rule.adaptive else rule.rate
    elapsed = max(0.0, now - number("at", now)) / MICRO
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
        horizon=None,
        waiting=0,
    )


def _moment(micros: float, now: int) -> datetime | None:
    return datetime.fromtimestamp(micros / MICRO, UTC) if micros > now else None


ASSUMED = 0.05
"""Seconds, until enough answers have come."""
COLD = 10
"""Answers of a process that are left out: the first calls wait for their connections."""
ENOUGH = 10
"""Answers before the estimate is used."""
REMEMBERED = 256
"""Answers after which an old one counts for little."""
OUTLIER = 3
"""Standard deviations beyond which an answer counts as that far: a stall is no part of the way."""


class SaneAnswers:
    """The sane answers of one API that came to this process.

    The next question to the buckets carries those that are not reported to the fleet yet, so that they cost no
    round trip of their own. Mean and variance of the time from a call's slot to its answer are kept, the
    newest weighing most.
    """

    def __init__(self) -> None:
        self._unreported = 0
        self._slowest = 0.0
        self._count = -COLD
        self._mean = 0.0
        self._variance = 0.0

    def add(self, seconds: float) -> None:
        """One answer came after so many seconds."""
        self._unreported += 1
        self._slowest = max(self._slowest, seconds)
        self._count += 1
        if self._count <= 0:
            return
        if self._count > ENOUGH:
            reach = OUTLIER * math.sqrt(self._variance)
            seconds = min(max(seconds, self._mean - reach), self._mean + reach)
        weight = max(1 / self._count, 1 / REMEMBERED)
        difference = seconds - self._mean
        self._mean += weight * difference
        self._variance = (1 - weight) * (self._variance + weight * difference**2)

    def take(self) -> tuple[int, int]:
        """How many are not reported and the microseconds of the slowest; from here on they are."""
        unreported = self._unreported, round(self._slowest * MICRO)
        self._unreported, self._slowest = 0, 0.0
        return unreported

    @property
    def spread(self) -> float:
        """Seconds between the shortest and the longest way there.

        The way there and the way back are taken to be alike, and each as likely to be long as
        short: then the variance of both together is a sixth of the square of this.
        """
        return math.sqrt(6 * self._variance) if self._count >= ENOUGH else ASSUMED
