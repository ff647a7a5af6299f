"""One seed: start the system, carry the schedule out, settle, verify."""

import re
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dingrelay_chaos import invariants, system
from dingrelay_chaos.evidence import Evidence
from dingrelay_chaos.faults import Fault
from dingrelay_chaos.invariants import Violation
from dingrelay_chaos.operations import brief
from dingrelay_chaos.requests import FaultTime
from dingrelay_chaos.schedule import Schedule, Step
from dingrelay_chaos.settling import settle
from dingrelay_chaos.story import story
from dingrelay_chaos.system import System

PRODUCERS = 6
"""Operations at once: one that waits for a silent Valkey does not hold up the others."""
TIMEOUT_SECONDS = 120
"""An operation may take so long: it waits for Valkey and for the database, and an alert is posted twice, for
half a minute each, to a lane that no worker serves any more."""
TICK_SECONDS = 0.05
SUPERVISE_SECONDS = 0.5
MOST_STORIES = 4
LONG_SECONDS = 20
MOST_ALIKE = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a run."""

    schedule: Schedule
    violations: list[Violation]
    stories: list[str]
    figures: str
    folder: Path

    @property
    def text(self) -> str:
        """The verdict for people: of violations of one kind the first ones, and a story of each."""
        seed, seconds = self.schedule.seed, self.schedule.seconds
        if not self.violations:
            return f"seed {seed}: holds. {self.figures}"
        lines = [f"seed {seed}: {len(self.violations)} violations. {self.figures}"]
        for some in _alike(self.violations):
            lines += [f"  {each}" for each in some[:MOST_ALIKE]]
            if len(some) > MOST_ALIKE:
                lines.append(f"  … and {len(some) - MOST_ALIKE} more of this kind")
        for each in self.stories:
            lines += ["", each]
        lines += ["", f"logs: {self.folder}"]
        return "\n".join([*lines, f"again: make chaos SEED={seed} SECONDS={seconds:g}"])


def _alike(violations: list[Violation]) -> list[list[Violation]]:
    """The violations by kind: the same words about other ids and people."""
    found: dict[str, list[Violation]] = {}
    for each in violations:
        kind = re.sub(r"[0-9a-f-]{32,}|'[^']*'|\d+", "", str(each))[:60]
        found.setdefault(kind, []).append(each)
    return list(found.values())


def run(
    schedule: Schedule,
    *,
    keep: bool = False,
    watch: Callable[[System], AbstractContextManager[Any]] = nullcontext,
) -> Verdict:
    """Carry a schedule out, and verify the end.

    Args:
        schedule: of a seed.
        keep: the folder with the logs; it is kept anyway if an invariant does not hold.
        watch: what accompanies operations and faults.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"dingrelay-chaos-{schedule.seed}-"))
    with system.running(schedule.setting, folder) as running:
        with watch(running):
            _carry_out(schedule, running)
        evidence = Evidence(running, schedule, settle(running, schedule))
        violations = invariants.verify(evidence)
        violations += [Violation(0, error) for error in running.requests.errors]
        verdict = Verdict(
            schedule,
            violations,
            _stories(violations, evidence),
            _figures(evidence, schedule),
            folder,
        )
    if not keep and not violations:
        shutil.rmtree(folder, ignore_errors=True)
    return verdict


def _carry_out(schedule: Schedule, running: System) -> None:
    """Operations in threads, faults one after the other in this one, which owns the processes."""
    ending: list[FaultTime] = []
    futures: list[tuple[Step, Future[None]]] = []
    with ThreadPoolExecutor(PRODUCERS, "producer") as producers:
        for step in schedule.steps:
            _wait(running, step.at, ending)
            what = step.what
            if isinstance(what, Fault):
                began = running.now()
                _safely(running, partial(what.begin, running))
                time_of = FaultTime(what, began, began + what.seconds)
                running.requests.faults.append(time_of)
                ending.append(time_of)
            else:
                act = partial(what, running, step.number)
                futures.append((step, producers.submit(_safely, running, act)))
        _wait(running, schedule.seconds, ending)
        for time_of in ending:
            _end(time_of, running)
        running.mend()
        ended_by = time.monotonic() + TIMEOUT_SECONDS
        for step, future in futures:
            try:
                future.result(max(0.0, ended_by - time.monotonic()))
            except TimeoutError:
                running.requests.errors.append(f"did not end: #{step.number} {brief(step.what)}")


def _wait(running: System, until: float, ending: list[FaultTime]) -> None:
    """Return at that time; until then end what is over, and start programs again."""
    next_look = 0.0
    while True:
        for over in [each for each in ending if each.ended <= running.now()]:
            ending.remove(over)
            _end(over, running)
        if running.now() >= next_look:
            running.supervise()
            next_look = running.now() + SUPERVISE_SECONDS
        left = until - running.now()
        if left <= 0:
            return
        time.sleep(min(left, TICK_SECONDS))


def _end(fault: FaultTime, running: System) -> None:
    fault.ended = running.now()
    _safely(running, partial(fault.what.end, running))


def _safely(running: System, act: Callable[[], object]) -> None:
    try:
        act()
    except Exception:  # noqa: BLE001 - it comes with the verdict; the run goes on
        running.requests.errors.append(traceback.format_exc(limit=-4))


def _stories(violations: list[Violation], evidence: Evidence) -> list[str]:
    """A story of each kind of violation."""
    stories: dict[str, str] = {}
    for first, *_ in _alike(violations):
        if first.job and first.job not in stories and len(stories) < MOST_STORIES:
            stories[first.job] = f"--- {first}\n{story(evidence, first.job)}"
    return list(stories.values())


def _figures(evidence: Evidence, schedule: Schedule) -> str:
    """Counts of a run's operations and their results, in a line."""
    states = Counter(str(each.state) if each else "gone" for each in evidence.statuses.values())
    faults = sum(isinstance(step.what, Fault) for step in schedule.steps)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
    return (
        f"{len(schedule.steps) - faults} operations, {faults} faults, "
        f"{len(evidence.snapshot.calls)} calls; {counts}; settled after {evidence.settled.waited:.0f} s"
        + (f", {evidence.settled.last[:160]}" if evidence.settled.waited > LONG_SECONDS else "")
    )
