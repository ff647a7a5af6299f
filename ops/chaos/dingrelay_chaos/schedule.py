"""The schedule: what is done, and what goes wrong, when. A pure function of seed and seconds."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from dingrelay_chaos.brief import brief
from dingrelay_chaos.door import DoorKind
from dingrelay_chaos.faults import draw as fault_draw
from dingrelay_chaos.faults.fault import Fault, shortened
from dingrelay_chaos.operations import draw as operation_draw
from dingrelay_chaos.operations.operation import Operation
from dingrelay_chaos.operations.past import Past
from dingrelay_chaos.subscribers import LEVELS
from dingrelay_chaos.weights import FAULT_SECONDS, FAULTS, KEPT_SHARE, OPERATION_SECONDS, OPERATIONS

QUIET_SHARE = 0.1
"""Faults begin after this share of the time, when there is work for them to meet."""
MOST_SKEW = 60.0
"""Seconds by which a clock may be wrong, either way."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How the system of a seed is set up.

    Attributes:
        worker_skews: seconds by which the clock of each worker is wrong.
        sandbox_skew: the same of DingTalk's.
    """

    worker_skews: tuple[float, ...]
    sandbox_skew: float
    concurrency: int
    calls: str
    recipients: str
    window: str
    latency: str
    approval_api: str
    contacts_api: str
    token_api: str
    door: DoorKind
    endpoints: tuple[str, ...]
    """Those who are told by webhooks from the start; nobody: there are none."""
    follow: Literal["own", "all"]
    """Which approvals are followed."""


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
        without: names of the table of weights, or step numbers such as ``#17``, that are left
            out. All else stays as it is, so that a failure can be made smaller.
        only: names of the table of weights; nothing else is drawn. None: all of it.
    """
    rng = random.Random(f"chaos {seed}")
    setting = _setting(rng, random.Random(f"chaos hearing {seed}"))
    drawn: list[tuple[float, str, Fault | None]] = []
    chosen = _kept(rng, FAULTS, only)
    workers = len(setting.worker_skews)
    at = seconds * QUIET_SHARE
    while chosen and (at := at + rng.uniform(*FAULT_SECONDS)) < seconds * 0.9:
        name = _pick(rng, chosen)
        fault = fault_draw.draw(rng, name, workers, MOST_SKEW)
        # All of them end with the time of the run: then the system has to come to rest.
        drawn.append((at, name, shortened(fault, seconds - at)))
    past = Past()
    kinds = _kept(rng, OPERATIONS, only)
    moments: list[float] = []
    at = 0.0
    while (at := at + rng.uniform(*OPERATION_SECONDS)) < seconds:
        moments.append(at)
    merged = sorted([*((moment, "", None) for moment in moments), *drawn], key=lambda each: each[0])
    steps: list[Step] = []
    for number, (moment, fault_name, drawn_fault) in enumerate(merged):
        what: Operation | Fault | None = drawn_fault
        name = fault_name
        if what is None:
            name = _pick(rng, kinds)
            what = operation_draw.draw(rng, name, number, past, seconds - moment)
        if what is not None and not {name, f"#{number}"} & set(without):
            steps.append(Step(number, round(moment, 3), what))
    return Schedule(seed, seconds, setting, tuple(steps))


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


def _kept(
    rng: random.Random, table: Mapping[str, float], only: Collection[str]
) -> dict[str, float]:
    """A part of a table: a seed that does less does it more often."""
    if only:
        return {name: weight for name, weight in table.items() if name in only}
    share = rng.uniform(*KEPT_SHARE)
    kept = {name: weight for name, weight in table.items() if rng.random() < share}
    return kept or dict(table)


def _pick(rng: random.Random, table: Mapping[str, float]) -> str:
    return rng.choices(list(table), list(table.values()))[0]
