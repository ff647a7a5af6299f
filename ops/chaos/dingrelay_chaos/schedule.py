"""The schedule: what is done, and what goes wrong, when. A pure function of seed and seconds."""

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from dingrelay_chaos import faults
from dingrelay_chaos.draws import OPERATIONS, Drawing
from dingrelay_chaos.faults import FAULTS, Fault
from dingrelay_chaos.fleet import DoorKind
from dingrelay_chaos.operations import Operation, brief
from dingrelay_chaos.subscribers import LEVELS

QUIET_SHARE = 0.1
"""Faults begin after this share of the time, when there is work for them to meet."""
MOST_SKEW = 60.0
"""Seconds by which a clock may be wrong, either way."""
OPERATION_SECONDS = (0.02, 0.4)
"""Shortest and longest pause between two operations."""
FAULT_SECONDS = (0.5, 4.0)
"""Shortest and longest pause between two faults."""
KEPT_SHARE = (0.4, 1.0)
"""The share of the tables that a seed keeps."""

SOAK_OPERATION_SECONDS = (0.1, 0.7)
"""Pauses between the operations of a soak: two and a half operations a second."""
KILLED = 0
"""The worker that a soak kills again and again."""
KILL_SECONDS = 60.0
AWAY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Setting:
    """How the system of a seed is set up; by default, that of a soak.

    Attributes:
        worker_skews: seconds by which the clock of each worker is wrong.
        sandbox_skew: the same of DingTalk's.
        door: how DingTalk's events come.
        endpoints: those that get webhooks from the start; there may be none.
        follow: which approvals are followed.
    """

    worker_skews: tuple[float, ...] = (0.0, 0.0, 0.0)
    sandbox_skew: float = 0.0
    concurrency: int = 16
    calls: str = "20/1s"
    recipients: str = "5000/60s"
    window: str = "calendar"
    latency: str = "5-30"
    approval_api: str = "v1.0"
    contacts_api: str = "v2"
    token_api: str = "oapi"
    door: DoorKind = "stream"
    endpoints: tuple[str, ...] = ("all", "approvals")
    follow: Literal["own", "all"] = "own"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation, or the begin of one fault. `at` is in seconds from the start."""

    number: int
    at: float
    what: Operation | Fault


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that is to happen in a run."""

    seed: int
    seconds: float
    setting: Setting
    steps: tuple[Step, ...]

    def text(self) -> str:
        """The schedule as lines for people."""
        head = f"seed {self.seed}, {self.seconds:g} s\n{self.setting}"
        lines = (f"{step.at:7.2f}  #{step.number:<4} {brief(step.what)}" for step in self.steps)
        return "\n".join([head, *lines])


def schedule(
    seed: int, seconds: float, *, without: Collection[str] = (), only: Collection[str] = ()
) -> Schedule:
    """The schedule of a seed.

    Args:
        seed: the same one makes the same schedule.
        seconds: how long operations and faults go on.
        without: names of the tables, or step numbers such as ``#17``, that are left out. All else stays
            as it is, so that a failure can be made smaller.
        only: names of the tables; nothing else is drawn. None: all of them.
    """
    rng = random.Random(f"chaos {seed}")
    setting = _setting(rng, random.Random(f"chaos hearing {seed}"))
    chosen = _kept(rng, {name: kind.weight for name, kind in FAULTS.items()}, only)
    drawn: list[tuple[float, Fault | None]] = []
    at = seconds * QUIET_SHARE
    while chosen and (at := at + rng.uniform(*FAULT_SECONDS)) < seconds * 0.9:
        fault = faults.draw(rng, _pick(rng, chosen), len(setting.worker_skews), MOST_SKEW)
        # All of them end with the time of the run: then the system has to come to rest.
        drawn.append((at, fault.shortened(seconds - at)))
    kinds = _kept(rng, _weights(), only)
    drawn += [(moment, None) for moment in _moments(rng, OPERATION_SECONDS, seconds)]
    steps = _steps(rng, drawn, kinds, seconds, without)
    return Schedule(seed, seconds, setting, tuple(steps))


def soak(seed: int, seconds: float) -> Schedule:
    """Operations of every kind in a random order, and the same worker killed once a minute."""
    rng = random.Random(f"soak {seed}")
    kill = Fault("kill", AWAY_SECONDS, {"worker": KILLED, "skew": 0.0})
    kills = int(max(0.0, seconds - AWAY_SECONDS - 1e-9) / KILL_SECONDS)
    drawn: list[tuple[float, Fault | None]] = [
        (KILL_SECONDS * (number + 1), kill) for number in range(kills)
    ]
    drawn += [(moment, None) for moment in _moments(rng, SOAK_OPERATION_SECONDS, seconds)]
    return Schedule(seed, seconds, Setting(), tuple(_steps(rng, drawn, _weights(), seconds)))


def _steps(
    rng: random.Random,
    drawn: list[tuple[float, Fault | None]],
    weights: Mapping[str, float],
    seconds: float,
    without: Collection[str] = (),
) -> Iterator[Step]:
    """Faults, and an operation at each moment that has none, in their order."""
    drawing = Drawing(rng)
    for number, (moment, fault) in enumerate(sorted(drawn, key=lambda each: each[0])):
        name = fault.name if fault else _pick(rng, weights)
        what = fault or drawing.draw(name, number, seconds - moment)
        if what is not None and not {name, f"#{number}"} & set(without):
            yield Step(number, round(moment, 3), what)


def _moments(rng: random.Random, pause: tuple[float, float], seconds: float) -> Iterator[float]:
    at = 0.0
    while (at := at + rng.uniform(*pause)) < seconds:
        yield at


def _setting(rng: random.Random, events_rng: random.Random) -> Setting:
    skewed = rng.random() < 0.6
    return Setting(
        worker_skews=tuple(
            round(rng.uniform(-MOST_SKEW, MOST_SKEW), 1) if skewed and rng.random() < 0.6 else 0.0
            for _ in range(rng.choice((2, 2, 2, 3, 3, 4)))
        ),
        sandbox_skew=round(rng.uniform(-MOST_SKEW, MOST_SKEW), 1) if rng.random() < 0.4 else 0.0,
        concurrency=rng.choice((4, 8, 16)),
        calls=rng.choice(("20/1s", "10/1s", "5/1s")),
        recipients=rng.choice(("5000/60s", "400/10s", "150/5s", "100/3s")),
        window=rng.choice(("calendar", "sliding", "bucket")),
        latency=rng.choice(("0-0", "5-30", "5-30", "50-300")),
        approval_api=rng.choice(("v1.0", "topapi")),
        contacts_api=rng.choice(("v2", "v2", "v1")),
        token_api=rng.choice(("oapi", "v1.0")),
        door=events_rng.choice(("http", "http", "stream")),
        endpoints=events_rng.choice(((), *LEVELS)),
        follow=events_rng.choice(("own", "own", "all")),
    )


def _weights() -> dict[str, float]:
    return {name: weight for name, (weight, _) in OPERATIONS.items()}


def _kept(
    rng: random.Random, table: Mapping[str, float], only: Collection[str]
) -> Mapping[str, float]:
    """A part of a table: a seed that does less does it more often."""
    if only:
        return {name: weight for name, weight in table.items() if name in only}
    share = rng.uniform(*KEPT_SHARE)
    return {name: weight for name, weight in table.items() if rng.random() < share} or table


def _pick(rng: random.Random, table: Mapping[str, float]) -> str:
    return rng.choices(list(table), list(table.values()))[0]
