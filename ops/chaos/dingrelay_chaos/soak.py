"""``make soak``: hours of mixed traffic, a kill a minute, and whether anything grows.

The first worker is killed once a minute; all others live from the start to the end, and what they hold is
sampled. It is verified by the same invariants as a seed of chaos.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from dingrelay_chaos import invariants, system
from dingrelay_chaos.evidence import Violation
from dingrelay_chaos.faults.fault import Fault
from dingrelay_chaos.faults.workers import WorkerEnds
from dingrelay_chaos.journal import Journal
from dingrelay_chaos.operations import draw as operation_draw
from dingrelay_chaos.operations.operation import Operation
from dingrelay_chaos.operations.past import Past
from dingrelay_chaos.run import figures, run_schedule
from dingrelay_chaos.samples import Sampler, chart, grown
from dingrelay_chaos.schedule import Schedule, Setting, Step
from dingrelay_chaos.settling import settle
from dingrelay_chaos.weights import OPERATIONS

KILLED = 0
"""The worker that is killed again and again."""
KILL_SECONDS = 60.0
AWAY_SECONDS = 5.0
OPERATION_SECONDS = (0.1, 0.7)
"""Shortest and longest pause between two operations: two and a half a second."""

SETTING = Setting(
    worker_skews=(0.0, 0.0, 0.0),
    sandbox_skew=0.0,
    concurrency=16,
    calls="20/1s",
    recipients="5000/60s",
    window="calendar",
    latency="5-30",
    approval_api="v1.0",
    contacts_api="v2",
    token_api="oapi",
    door="stream",
    endpoints=("all", "approvals"),
    follow="own",
)


def plan(seed: int, seconds: float) -> Schedule:
    """Operations of every kind in a random order, and the kills between them."""
    rng = random.Random(f"soak {seed}")
    moments: list[tuple[float, bool]] = []
    at = KILL_SECONDS
    while at < seconds - AWAY_SECONDS:
        moments.append((at, True))
        at += KILL_SECONDS
    at = 0.0
    while (at := at + rng.uniform(*OPERATION_SECONDS)) < seconds:
        moments.append((at, False))
    past = Past()
    steps: list[Step] = []
    for number, (moment, kill) in enumerate(sorted(moments)):
        what: Operation | Fault | None = WorkerEnds(KILLED, "kill", AWAY_SECONDS, 0.0)
        if not kill:
            name = rng.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
            what = operation_draw.draw(rng, name, number, past, seconds - moment)
        if what is not None:
            steps.append(Step(number, round(moment, 3), what))
    return Schedule(seed, seconds, SETTING, tuple(steps))


def main() -> int:
    """Run it; 1 if an invariant does not hold, or something has grown."""
    options = _options()
    schedule = plan(options.seed, options.hours * 3600)
    folder = Path(tempfile.mkdtemp(prefix="dingrelay-soak-"))
    print(
        f"seed {options.seed}, {options.hours:g} h, {len(schedule.steps)} steps: {folder}",
        flush=True,
    )
    journal = Journal()
    with system.running(schedule.setting, folder) as running:
        with Sampler(running, spared={running.workers[KILLED].name}) as sampler:
            run_schedule(schedule, running, journal)
        evidence = settle(running, schedule, journal)
        violations = invariants.verify(evidence, running)
        violations += [Violation(0, error) for error in journal.errors]
        print(figures(evidence, schedule))
    sampler.write(folder / "samples.csv")
    chart(sampler.samples, folder / "samples.svg")
    print(sampler.table())
    growing = grown(sampler.samples)
    for line in (*map(str, violations), *growing):
        print(f"  {line}")
    print("holds, and nothing has grown" if not violations and not growing else "does not hold")
    return 1 if violations or growing else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
