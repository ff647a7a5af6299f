"""The plan of a seed: the world, the operations and the faults of one run, as plain values that can be dropped."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

from dingrelay_simulation.draws import FAULTS, OPERATIONS, WORKERS, Draft, draw_change
from dingrelay_simulation.scenes import (
    BEFORE_MIDNIGHT,
    MORE_SCENES,
    SCENES,
    SCENES_OF_ERRORS,
    SCENES_OF_LOSSES,
    pass_midnight_in_doubt,
    pause_a_lane,
)

SECONDS = 18.0
"""Virtual seconds in which operations and faults begin."""
BURST = 1.0
"""Seconds of a burst of operations."""
MIDNIGHT = 2_066_745_600.0
"""Unix seconds of a midnight in Beijing (2035-06-30 16:00 UTC), and the end of a month there."""


@dataclass(frozen=True)
class Step:
    """An operation or a fault.

    Attributes:
        at: seconds from the beginning.
        name: which one (`operations.OPERATIONS`, `faults.FAULTS`).
        values: its arguments.
    """

    at: float
    name: str
    values: dict[str, Any]

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{self.at:8.3f}  {self.name}({values})"


@dataclass(frozen=True)
class World:
    """The world of a run: all that does not change in it.

    Attributes:
        epoch: Unix seconds at which it begins.
        skews: of the workers' wall clocks, in seconds.
        redis_skew, dingtalk_skew: of these two.
        window: how DingTalk counts calls.
        calls: its limit of calls a second, on each API.
        recipients: its limit of recipients, and in how many seconds.
        broker: shares of messages that are lost, repeated, late, reordered; None for Redis as the broker.
        lease, looks: the settings.
        upgraded: workers and clients of 0.2.0 have left jobs in Redis.
        latency: seconds of one way to DingTalk: the shortest and the longest.
    """

    epoch: float
    skews: tuple[float, ...] = (0.0,) * WORKERS
    redis_skew: float = 0.0
    dingtalk_skew: float = 0.0
    window: str = "calendar"
    calls: int = 20
    recipients: tuple[int, int] = (5_000, 60)
    broker: tuple[float, ...] | None = (0.0, 0.0, 0.0, 0.0)
    lease: float = 8.0
    looks: tuple[float, ...] = (8.0, 20.0)
    upgraded: bool = False
    latency: tuple[float, float] = (0.004, 0.03)


@dataclass(frozen=True)
class Plan:
    """One run."""

    seed: int
    world: World
    operations: tuple[Step, ...]
    faults: tuple[Step, ...]

    def without(self, dropped: set[Step] | frozenset[int], *, faults: bool) -> "Plan":
        """The plan without some of its steps, by their indexes."""
        steps = self.faults if faults else self.operations
        kept = tuple(step for index, step in enumerate(steps) if index not in dropped)
        return replace(self, faults=kept) if faults else replace(self, operations=kept)


OFTEN = {"campaign": 0.12, "sync": 0.15, "organisation": 0.15, "webhook": 0.12}
"""How often a feature is part of a run; SQL costs the most."""
STRIKES = {"lost_answer": (0.7, 3), "sick": (0.5, 2), "slow": (0.5, 2)}
"""How often a fault is part of a run, and its weight there, of those without which little is ambiguous."""
AFTERWARDS = {"recall": 15.0, "requeue": 6.0, "cancel": 6.0, "resolve": 10.0, "decide": 6.0}
"""Seconds by which an operation about earlier ones may come after its turn, when these have got somewhere."""
NEAR = 0.8
"""Share of the faults that strike while something is under way."""


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(f"plan {seed}")
    world = _world(rng)
    draft = Draft(rng)
    # Each run leaves some operations and faults out, so that others come together more often.
    features = {name for name in OPERATIONS if rng.random() < OFTEN.get(name, 0.6)} | {"send"}
    if "organisation" in features:
        features.add("sync")  # it is of interest what a sync finds while the organisation changes
    weights = {name: OPERATIONS[name][0] for name in OPERATIONS if name in features}
    if world.broker is None and "bare" in features:
        weights["bare"] *= 4  # they alone are lost with what a worker has taken
    if "organisation" in features:
        weights["sync"] *= 3
    operations: list[Step] = []
    for at in _moments(rng, world, rng.randint(16, 40)):
        (name,) = rng.choices(list(weights), list(weights.values()))
        values = OPERATIONS[name][1](draft)
        if values is not None:
            pause = rng.uniform(0, AFTERWARDS.get(name, 0.0)) if rng.random() < 0.6 else 0.0
            operations.append(Step(round(at + pause, 3), name, {"number": draft.number, **values}))
            draft.number += 1
    if "organisation" in features:
        operations += _changes(draft, [step.at for step in operations if step.name == "sync"])
    staged = _scenes(draft, world)
    kinds = [name for name in FAULTS if rng.random() < STRIKES.get(name, (0.35, 1))[0]]
    faults: list[Step] = []
    for _ in range(rng.randint(1, 9) if kinds and operations else 0):
        (name,) = rng.choices(kinds, [STRIKES.get(kind, (0.35, 1))[1] for kind in kinds])
        at = rng.uniform(0, SECONDS)
        if rng.random() < NEAR:
            at = rng.choice(operations).at + rng.uniform(-0.5, 6)
        faults.append(Step(round(max(0.0, at), 3), name, FAULTS[name](rng)))
    if seed > PLAIN:
        _add_scenes(staged, seed)
    operations += staged.operations
    faults += staged.faults
    return Plan(seed, world, tuple(sorted(operations, key=_at)), tuple(sorted(faults, key=_at)))


MORE = 0.4
"""Share of the runs to which a scene is added that costs more."""
PAUSES = 0.2
"""Share of the runs to which one is added in which a lane is paused."""
ERRORS = 0.4
"""Share of the runs to which one is added in which jobs are stopped that wait for their next attempt."""
LOSSES = 0.4
"""Share of the runs to which one is added in which what is known of a job is lost."""
PLAIN = 100
"""Last seed to which none is added: it stands for what it stood for before there were any, as the table of mutations says."""


@dataclass
class _Scenes:
    """Scenes of a run: a scene's `Stage`."""

    draft: Draft
    at: float = 0.0
    operations: list[Step] = field(default_factory=list[Step])
    faults: list[Step] = field(default_factory=list[Step])

    @property
    def rng(self) -> random.Random:
        return self.draft.rng

    def operation(self, after: float, name: str, **values: Any) -> int:
        """Add an operation; what is not given is drawn."""
        draft = self.draft
        # What a scene commands is about its own, or about what no other operation is about.
        drawn: dict[str, Any] = {"verb": name}
        if "target" not in values and name in OPERATIONS:
            drawn = OPERATIONS[name][1](draft) or {}
        if name == "approval":
            form = values.pop("form", draft.number)
            drawn |= {"tag": f"a{form}", "rows": form % 3}
        number = draft.number
        draft.number += 1
        at = round(self.at + after, 3)
        self.operations.append(Step(at, name, {"number": number, **drawn, **values}))
        return number

    def fault(self, after: float, name: str, **values: Any) -> None:
        """Add a fault; what is not given is drawn, and what is None left out."""
        drawn = (FAULTS[name](self.rng) if name in FAULTS else {}) | values
        kept = {name: value for name, value in drawn.items() if value is not None}
        self.faults.append(Step(round(self.at + after, 3), name, kept))


def _scenes(draft: Draft, world: World) -> _Scenes:
    """Up to two scenes, and one at midnight if that comes."""
    rng, staged = draft.rng, _Scenes(draft)
    for scene in rng.sample(SCENES, rng.choice((0, 1, 1, 2))):
        staged.at = rng.uniform(0, SECONDS)
        scene(staged)
    midnight = MIDNIGHT - world.epoch - world.dingtalk_skew
    if midnight < SECONDS + BEFORE_MIDNIGHT and rng.random() < 0.6:
        staged.at = max(0.0, midnight - BEFORE_MIDNIGHT)
        pass_midnight_in_doubt(staged)
    return staged


def _add_scenes(staged: _Scenes, seed: int) -> None:
    """Add scenes behind all that is drawn: a run without them is the one that its seed stood for before there were any."""
    rng = staged.rng
    if rng.random() < MORE:
        staged.at = rng.uniform(0, SECONDS)
        rng.choice(MORE_SCENES)(staged)
    if random.Random(f"pauses {seed}").random() < PAUSES:
        staged.at = rng.uniform(0, SECONDS)
        pause_a_lane(staged)
    number = staged.draft.number
    for name, share, scenes in (
        ("errors", ERRORS, SCENES_OF_ERRORS),
        ("losses", LOSSES, SCENES_OF_LOSSES),
    ):
        rng = random.Random(f"{name} {seed}")
        if rng.random() < share:
            at, draft = rng.uniform(0, SECONDS), Draft(rng, number)
            rng.choice(scenes)(_Scenes(draft, at, staged.operations, staged.faults))
            number = draft.number


def _changes(draft: Draft, syncs: list[float]) -> list[Step]:
    """People who move while a sync reads one department after the other."""
    steps: list[Step] = []
    for at in syncs:
        for _ in range(4):
            moment = round(at + draft.rng.uniform(0, 3), 3)
            values = {"number": draft.number, **draw_change(draft), "verb": "move"}
            steps.append(Step(moment, "organisation", values))
            draft.number += 1
    return steps


CROWD_SECONDS = 20.0
"""Virtual seconds in which jobs of a crowd come."""
SENDERS = 8


def draw_crowd(seed: int) -> Plan:
    """The plan of a crowd: senders that come, grow impatient and cancel, at a limit that is always full."""
    rng = random.Random(f"crowd {seed}")
    world = World(
        epoch=MIDNIGHT - 3_600 * 6.5,
        window=rng.choice(("calendar", "sliding", "bucket")),
        calls=10,
        broker=(0.01, 0.0, 0.05, 0.0),
    )
    operations = [
        Step(
            round(rng.uniform(0, CROWD_SECONDS), 3),
            "burst",
            {
                "number": number,
                "sender": f"team{round((SENDERS - 1) * rng.random() ** 2)}",
                "count": round(60 * rng.random() ** 3) + 1,
            },
        )
        for number in range(24)
    ]
    senders = sorted({step.values["sender"] for step in operations})
    operations += [
        Step(
            round(rng.uniform(5, CROWD_SECONDS), 3),
            "call_off",
            {"number": 100 + number, "sender": rng.choice(senders), "each": rng.choice((1, 3))},
        )
        for number in range(4)
    ]
    faults = [
        Step(round(rng.uniform(5, CROWD_SECONDS), 3), name, FAULTS[name](rng))
        for name in ("kill", "redis_restart")
        if rng.random() < 0.5
    ]
    return Plan(seed, world, tuple(sorted(operations, key=_at)), tuple(sorted(faults, key=_at)))


def _at(step: Step) -> float:
    return step.at


def _moments(rng: random.Random, world: World, count: int) -> list[float]:
    """Times of operations: spread out, or in bursts that fill the limits, one of them at midnight if that comes."""
    if rng.random() < 0.4:
        return sorted(rng.uniform(0, SECONDS) for _ in range(count))
    bursts = [rng.uniform(0, SECONDS - BURST) for _ in range(rng.randint(1, 3))]
    midnight = MIDNIGHT - world.epoch - world.dingtalk_skew
    if 0 < midnight < SECONDS:
        bursts.append(midnight - BURST / 2)
    return sorted(max(0.0, rng.choice(bursts) + rng.uniform(0, BURST)) for _ in range(count))


def _world(rng: random.Random) -> World:
    skewed = rng.random() < 0.4

    def skew() -> float:
        return round(rng.uniform(-60, 60), 3) if skewed else 0.0

    dingtalk_skew = skew()
    # Midnight comes within the run by DingTalk's clock, which counts.
    before = rng.uniform(3, SECONDS + 6) if rng.random() < 0.3 else 3_600 * 6.5
    unreliable = rng.random() < 0.5
    broker = tuple(round(rng.choice((0.0, 0.1, 0.3)), 2) if unreliable else 0.0 for _ in range(4))
    return World(
        epoch=round(MIDNIGHT - before - dingtalk_skew, 3),
        skews=tuple(skew() for _ in range(WORKERS)),
        redis_skew=skew(),
        dingtalk_skew=dingtalk_skew,
        window=rng.choice(("calendar", "sliding", "bucket")),
        calls=rng.choice((20, 5, 2)),
        recipients=rng.choice(((5_000, 60), (5_000, 60), (20, 10), (10, 5))),
        broker=None if rng.random() < 0.25 else broker,
        lease=rng.choice((8.0, 8.0, 30.0)),
        looks=rng.choice(((3.0, 9.0), (8.0, 20.0))),
        upgraded=rng.random() < 0.15,
        # Less uneven than what the limiter allows for (`rules.JITTER`).
        latency=rng.choice(((0.004, 0.03), (0.004, 0.03), (0.6, 0.9), (1.5, 1.9))),
    )
