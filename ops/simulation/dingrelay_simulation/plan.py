"""The plan of a seed: the world, the operations and the faults of one run, as plain values that can be dropped."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dingrelay_simulation.scenes import BEFORE_MIDNIGHT, SCENES, pass_midnight_in_doubt

SECONDS = 18.0
"""Virtual seconds in which operations and faults begin."""
BURST = 1.0
"""Seconds of a burst of operations."""
USERS = tuple(f"u{number}" for number in range(1, 21))
WORKERS = 3
MIDNIGHT = 2_066_745_600.0
"""Unix seconds of a midnight in Beijing (2035-06-30 16:00 UTC), and the end of a month there."""
LANES = ("urgent", "normal", "normal", "bulk")
MOVING = ("u21", "u22", "u23", "u24", "new1", "new2")
"""People who come, go and move; the others are always there."""
PORTS = {"redis": 6379, "dingtalk": 8443, "application": 8700}


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


@dataclass
class _Draft:
    """A plan that is being drawn."""

    rng: random.Random
    number: int = 0
    sends: list[int] = field(default_factory=list[int])
    approvals: list[int] = field(default_factory=list[int])
    equal: list[int] = field(default_factory=list[int])
    later: list[int] = field(default_factory=list[int])
    cancelled: list[int] = field(default_factory=list[int])
    jobs: list[int] = field(default_factory=list[int])
    campaigns: list[int] = field(default_factory=list[int])
    endpoints: list[int] = field(default_factory=list[int])

    def users(self, most: int = 4) -> list[str]:
        return self.rng.sample(USERS, self.rng.randint(1, most))


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
    draft = _Draft(rng)
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
    operations += staged.operations
    faults += staged.faults
    return Plan(seed, world, tuple(sorted(operations, key=_at)), tuple(sorted(faults, key=_at)))


@dataclass
class _Scenes:
    """Scenes of a run: a scene's `Stage`."""

    draft: _Draft
    at: float = 0.0
    operations: list[Step] = field(default_factory=list[Step])
    faults: list[Step] = field(default_factory=list[Step])

    @property
    def rng(self) -> random.Random:
        return self.draft.rng

    def operation(self, after: float, name: str, **values: Any) -> int:
        """Add an operation; what is not given is drawn."""
        draft = self.draft
        # What a scene commands is about its own.
        drawn = {"verb": name} if "target" in values else OPERATIONS[name][1](draft) or {}
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
        drawn = FAULTS[name](self.rng) | values
        kept = {name: value for name, value in drawn.items() if value is not None}
        self.faults.append(Step(round(self.at + after, 3), name, kept))


def _scenes(draft: _Draft, world: World) -> _Scenes:
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


def _changes(draft: _Draft, syncs: list[float]) -> list[Step]:
    """People who move while a sync reads one department after the other."""
    steps: list[Step] = []
    for at in syncs:
        for _ in range(4):
            moment = round(at + draft.rng.uniform(0, 3), 3)
            values = {"number": draft.number, **_organisation(draft), "verb": "move"}
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


def _send(draft: _Draft, **more: Any) -> dict[str, Any]:
    rng = draft.rng
    draft.sends.append(draft.number)
    draft.jobs.append(draft.number)
    return {"users": draft.users(), "lane": rng.choice(LANES), "tag": f"m{draft.number}", **more}


def _keyed(draft: _Draft) -> dict[str, Any]:
    return _send(draft, key=f"k{draft.rng.randint(1, 3)}", tag="keyed", users=["u1", "u2"])


def _equal(draft: _Draft) -> dict[str, Any]:
    draft.equal.append(draft.number)
    return _send(draft, tag=f"equal{draft.rng.randint(1, 2)}", users=draft.users(3), lane="normal")


def _times(draft: _Draft) -> dict[str, Any]:
    rng = draft.rng
    send_in = round(rng.uniform(0.5, 20), 2) if rng.random() < 0.6 else None
    if send_in:
        draft.later.append(draft.number)
    expires_in = (
        None if send_in and rng.random() < 0.5 else round((send_in or 0) + rng.uniform(1, 20), 2)
    )
    return _send(draft, send_in=send_in, expires_in=expires_in)


def _approval(draft: _Draft) -> dict[str, Any]:
    rng = draft.rng
    again = draft.approvals and rng.random() < 0.5
    form = rng.choice(draft.approvals) if again else draft.number
    draft.approvals.append(form)
    draft.jobs.append(draft.number)
    return {
        "tag": f"a{form}",
        "originator": "u5",
        "steps": rng.choice((0, 1, 2)),
        "rows": form % 3,
    }


def _decide(draft: _Draft) -> dict[str, Any] | None:
    if not draft.approvals:
        return None
    verb = draft.rng.choice(("agree", "agree", "refuse", "terminate", "delete"))
    return {"tag": f"a{draft.rng.choice(draft.approvals)}", "verb": verb}


def _call(draft: _Draft) -> dict[str, Any]:
    draft.jobs.append(draft.number)
    effect = draft.rng.choice(("once", "once", "repeatable"))
    return {"tag": f"c{draft.number}", "user": draft.rng.choice(USERS), "effect": effect}


def _sync(draft: _Draft) -> dict[str, Any]:
    draft.jobs.append(draft.number)
    return {"scope": "everything"}


def _organisation(draft: _Draft) -> dict[str, Any]:
    rng = draft.rng
    verbs = ("join", "move", "rename", "leave", "leave", "add department", "rename department")
    return {
        "verb": rng.choice((*verbs, "delete department")),
        "user": rng.choice(MOVING),
        "department": rng.choice((1, 2, 3, 4)),
        "other": rng.choice((5, 6)),
    }


def _webhook(draft: _Draft) -> dict[str, Any] | None:
    if len(draft.endpoints) == 2:
        return None
    draft.endpoints.append(draft.number)
    return {"types": draft.rng.choice((("*",), ("job.*",), ("job.dead", "job.done")))}


def _webhook_command(draft: _Draft) -> dict[str, Any] | None:
    if not draft.endpoints:
        return None
    verb = draft.rng.choice(("pause", "resume", "resume", "rotate", "remove"))
    return {"target": draft.rng.choice(draft.endpoints), "verb": verb}


def _robot(draft: _Draft) -> dict[str, Any]:
    rng = draft.rng
    draft.jobs.append(draft.number)
    return {
        "tag": f"r{draft.number}",
        "lane": rng.choice(LANES),
        "digest": rng.choice((None, None, "3s")),
    }


def _campaign(draft: _Draft) -> dict[str, Any]:
    rng = draft.rng
    draft.campaigns.append(draft.number)
    users = [*rng.sample(USERS, rng.randint(3, len(USERS))), rng.choice(USERS)]
    return {
        "tag": f"b{draft.number}",
        "users": users,
        "fields": rng.random() < 0.4,
        "rate": rng.choice((None, None, 600)),
    }


def _campaign_command(draft: _Draft) -> dict[str, Any] | None:
    if not draft.campaigns:
        return None
    verb = draft.rng.choice(("pause", "resume", "resume", "cancel", "recall", "start"))
    return {"target": draft.rng.choice(draft.campaigns[-2:]), "verb": verb}


def _recall(draft: _Draft) -> dict[str, Any] | None:
    if not draft.sends:
        return None
    # Equal messages share calls.
    among = draft.equal if draft.equal and draft.rng.random() < 0.7 else draft.sends
    return {"target": draft.rng.choice(among[-8:])}


def _command(verb: str) -> Any:
    def draw_command(draft: _Draft) -> dict[str, Any] | None:
        if not draft.jobs:
            return None
        among = draft.jobs[-8:] if draft.rng.random() < 0.7 else draft.jobs
        # A job that waits for its time can be cancelled, and what was cancelled can be requeued.
        early = [job for job in draft.cancelled if job in draft.later]
        apt = draft.later if verb == "cancel" else early or draft.cancelled
        if apt and draft.rng.random() < 0.5:
            among = apt
        target = draft.rng.choice(among)
        if verb == "cancel":
            draft.cancelled.append(target)
        return {"target": target, "verb": verb}

    return draw_command


OPERATIONS: dict[str, tuple[float, Callable[[_Draft], dict[str, Any] | None]]] = {
    "send": (20, _send),
    "send_many": (3, lambda draft: {**_send(draft), "count": draft.rng.randint(2, 12)}),
    "keyed": (4, _keyed),
    "equal": (10, _equal),
    "bare": (4, lambda draft: _send(draft, bare=True)),
    "times": (6, _times),
    "stop_on_unknown": (3, lambda draft: _send(draft, on_unknown="stop")),
    "allow_duplicate": (2, lambda draft: _send(draft, allow_duplicate=True)),
    "confirm": (2, lambda draft: _send(draft, confirm=True)),
    "approval": (10, _approval),
    "call": (8, _call),
    "cancel": (5, _command("cancel")),
    "requeue": (4, _command("requeue")),
    "discard": (2, _command("discard")),
    "sync": (4, _sync),
    "campaign": (3, _campaign),
    "campaign_command": (5, _campaign_command),
    "robot": (6, _robot),
    "decide": (6, _decide),
    "recall": (3, _recall),
    "resolve": (2, lambda draft: {}),
    "organisation": (5, _organisation),
    "webhook": (3, _webhook),
    "webhook_command": (3, _webhook_command),
}
"""Operation → its weight, and how its values are drawn."""


def _worker(rng: random.Random) -> int:
    return rng.randrange(WORKERS)


def _pause(rng: random.Random) -> float:
    """Seconds of a standstill: short, about as long as a lease and as a worker counts as alive, or longer than any."""
    return round(rng.uniform(*rng.choice(((0.3, 3), (6, 14), (6, 14), (14, 45)))), 1)


def _message(rng: random.Random, what: str) -> dict[str, Any]:
    """A fault at a wait: the n-th message of a worker to a server from then on, or its answer."""
    return {
        "worker": _worker(rng),
        "to": rng.choice(("redis", "redis", "dingtalk")),
        "count": rng.choice((1, 1, 2, 3, 5, 8, 13, 21)),
        "when": rng.choice(("before", "after", "answer")),
        "what": what,
        "seconds": _pause(rng),
    }


APIS = (
    "*",
    "/topapi/message/corpconversation/asyncsend_v2",
    "/v1.0/workflow/processInstances",
    "/topapi/message/corpconversation/asyncsend_v2",
    "/v1.0/workflow/processInstances",
    "/gettoken",
    "/topapi/v2",
    "/robot/send",
    "/topapi/processinstance",
)


def _dingtalk(kinds: tuple[str, ...]) -> Any:
    def draw_fault(rng: random.Random) -> dict[str, Any]:
        values: dict[str, Any] = {"kind": rng.choice(kinds), "api": rng.choice(APIS)}
        if rng.random() < 0.5:
            values |= {
                "seconds": round(rng.uniform(1, 30), 1),
                "share": rng.choice((0.3, 0.7, 1.0)),
            }
        else:
            values |= {"count": rng.choice((1, 1, 2, 3, 6))}
        if values["kind"] == "latency":
            values |= {
                "min_ms": 200,
                "max_ms": rng.choice((2_000, 12_000, 30_000)),
                "effect": rng.random() < 0.6,
            }
        elif values["kind"] in {"error", "html", "http"}:
            values["effect"] = rng.random() < 0.5
        return values

    return draw_fault


FAULTS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "kill": lambda rng: {"worker": _worker(rng), "back": round(rng.uniform(0.2, 20), 1)},
    "stop": lambda rng: {"worker": _worker(rng), "back": round(rng.uniform(0.2, 20), 1)},
    "freeze": lambda rng: {
        "worker": _worker(rng),
        "seconds": _pause(rng),
    },
    "kill_at": lambda rng: _message(rng, "kill"),
    "freeze_at": lambda rng: _message(rng, "freeze"),
    "cut_at": lambda rng: _message(rng, "cut"),
    "lose_at": lambda rng: _message(rng, "lose"),
    "cut": lambda rng: {
        "worker": _worker(rng),
        "to": rng.choice(list(PORTS)),
        "seconds": round(rng.uniform(1, 20), 1),
    },
    "clock": lambda rng: {"worker": _worker(rng), "by": round(rng.uniform(-60, 60), 2)},
    "redis_slow": lambda rng: {
        "by": rng.choice((0.05, 0.5, 2.0)),
        "seconds": round(rng.uniform(1, 15), 1),
    },
    "redis_silent": lambda rng: {"seconds": round(rng.uniform(1, 15), 1)},
    "redis_restart": lambda rng: {
        "lost": rng.choice((0.0, 0.3, 1.0)),
        "seconds": round(rng.uniform(0.1, 5), 1),
    },
    "redis_full": lambda rng: {"seconds": round(rng.uniform(1, 10), 1)},
    "dingtalk_away": lambda rng: {"seconds": round(rng.uniform(1, 25), 1)},
    "throttle": _dingtalk(("throttle",)),
    "lost_answer": _dingtalk(
        ("lost_answer", "reset_after", "truncated", "wrong_types", "reset_before", "hang")
    ),
    "sick": _dingtalk(("error", "html", "http")),
    "slow": _dingtalk(("latency",)),
    "token": _dingtalk(("token_expired",)),
    "credentials": _dingtalk(("credentials_refused",)),
    "database": lambda rng: {
        "worker": _worker(rng),
        "when": rng.choice(("before", "after")),
        "share": rng.choice((0.1, 0.4, 1.0)),
        "seconds": round(rng.uniform(1, 12), 1),
    },
    "application": lambda rng: {
        "manner": rng.choice(("away", "slow", "error", "busy", "cut", "redirect")),
        "seconds": round(rng.uniform(1, 20), 1),
    },
}
"""Fault → how its values are drawn."""
