"""One seed: start the system, carry the schedule out, settle, verify."""

import re
import shutil
import tempfile
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dingrelay_chaos import invariants, system
from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.faults.fault import Fault
from dingrelay_chaos.journal import FaultTime, Journal
from dingrelay_chaos.operations.operation import Operation
from dingrelay_chaos.schedule import Schedule
from dingrelay_chaos.settling import settle
from dingrelay_chaos.story import story
from dingrelay_chaos.system import System

PRODUCERS = 6
"""Operations at once: one that waits for a silent Valkey does not hold up the others."""
PATIENCE_SECONDS = 40
"""An operation may take so long: it waits for Valkey, and for the database."""
TICK_SECONDS = 0.05
MOST_STORIES = 4
LONG_SECONDS = 20
MOST_ALIKE = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run has shown."""

    schedule: Schedule
    violations: list[Violation]
    stories: list[str]
    figures: str
    folder: Path

    @property
    def text(self) -> str:
        """The verdict for people."""
        if not self.violations:
            return f"seed {self.schedule.seed}: holds. {self.figures}"
        lines = [f"seed {self.schedule.seed}: {len(self.violations)} violations. {self.figures}"]
        lines += _gathered(self.violations)
        for each in self.stories:
            lines += ["", each]
        lines += ["", f"logs: {self.folder}"]
        lines.append(
            f"again: make chaos SEED={self.schedule.seed} SECONDS={self.schedule.seconds:g}"
        )
        return "\n".join(lines)


def _alike(violations: list[Violation]) -> list[list[Violation]]:
    """The violations by kind: the same words about other ids and people."""
    found: dict[str, list[Violation]] = {}
    for each in violations:
        kind = re.sub(r"[0-9a-f-]{32,}|'[^']*'|\d+", "", str(each))[:60]
        found.setdefault(kind, []).append(each)
    return list(found.values())


def _gathered(violations: list[Violation]) -> list[str]:
    """A line a violation; of many alike the first ones."""
    lines: list[str] = []
    for some in _alike(violations):
        lines += [f"  {each}" for each in some[:MOST_ALIKE]]
        if len(some) > MOST_ALIKE:
            lines.append(f"  … and {len(some) - MOST_ALIKE} more of this kind")
    return lines


def run(schedule: Schedule, *, keep: bool = False) -> Verdict:
    """Carry a schedule out, and verify the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"dingrelay-chaos-{schedule.seed}-"))
    journal = Journal()
    try:
        with system.running(schedule.setting, folder) as running:
            run_schedule(schedule, running, journal)
            evidence = settle(running, schedule, journal)
            violations = invariants.verify(evidence, running)
            violations += [Violation(0, error) for error in journal.errors]
            stories = _stories(violations, evidence, running)
            summary = figures(evidence, schedule)
    except BaseException:
        keep = True
        raise
    finally:
        if not keep and not locals().get("violations"):
            shutil.rmtree(folder, ignore_errors=True)
    return Verdict(schedule, violations, stories, summary, folder)


def run_schedule(schedule: Schedule, running: System, journal: Journal) -> None:
    """Operations in threads, faults one after the other in this one, which owns the processes."""
    ending: list[tuple[float, Fault, FaultTime]] = []
    futures: list[Future[None]] = []
    with ThreadPoolExecutor(PRODUCERS, "producer") as producers:
        for step in schedule.steps:
            _wait(running, step.at, ending, journal)
            match step.what:
                case Fault() as fault:
                    began = running.now()
                    _safely(lambda fault=fault: fault.begin(running), journal)
                    time_of = FaultTime(fault, began, began + fault.seconds)
                    journal.faults.append(time_of)
                    ending.append((began + fault.seconds, fault, time_of))
                case operation:
                    futures.append(producers.submit(_ask, operation, running, step.number, journal))
        _wait(running, schedule.seconds, ending, journal)
        for _, fault, time_of in ending:
            time_of.ended = running.now()
            _safely(lambda fault=fault: fault.end(running), journal)
        running.mend()
        for future in futures:
            future.result(PATIENCE_SECONDS)


def _wait(
    running: System, until: float, ending: list[tuple[float, Fault, FaultTime]], journal: Journal
) -> None:
    """Return at that time; meanwhile end what is over, and start workers again."""
    next_look = 0.0
    while True:
        for over in [each for each in ending if each[0] <= running.now()]:
            ending.remove(over)
            _, fault, time_of = over
            time_of.ended = running.now()
            _safely(lambda fault=fault: fault.end(running), journal)
        if running.now() >= next_look:
            running.supervise()
            next_look = running.now() + 0.5
        left = until - running.now()
        if left <= 0:
            return
        time.sleep(min(left, TICK_SECONDS))


def _ask(operation: Operation, running: System, step: int, journal: Journal) -> None:
    _safely(lambda: operation.run(running, step), journal)


def _safely(act: "object", journal: Journal) -> None:
    try:
        act()  # type: ignore[operator]
    except Exception:  # noqa: BLE001 - told with the verdict; the run goes on
        journal.errors.append(traceback.format_exc(limit=-4))


def _stories(violations: list[Violation], evidence: Evidence, running: System) -> list[str]:
    """A story of each kind of violation."""
    stories: dict[str, str] = {}
    for some in _alike(violations):
        first = some[0]
        if first.job and first.job not in stories and len(stories) < MOST_STORIES:
            stories[first.job] = f"--- {first}\n{story(evidence, running, first.job)}"
    return list(stories.values())


def figures(evidence: Evidence, schedule: Schedule) -> str:
    """What was done and came of it, in a line."""
    states: dict[str, int] = {}
    for status in evidence.statuses.values():
        name = str(status.state) if status else "gone"
        states[name] = states.get(name, 0) + 1
    faults = sum(isinstance(step.what, Fault) for step in schedule.steps)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
    return (
        f"{len(schedule.steps) - faults} operations, {faults} faults, "
        f"{len(evidence.snapshot.calls)} calls; {counts}; settled after {evidence.waited:.0f} s"
        + (f", {evidence.last[:160]}" if evidence.waited > LONG_SECONDS else "")
    )
