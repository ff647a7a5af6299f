"""6: no window of any rule holds more than its limit, at DingTalk's side; the month is right."""

import json
from collections.abc import Iterator

from dingrelay_chaos import evidence as reading
from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.faults import ValkeyFreezes, ValkeyRefuses, ValkeyRestarts, WorkerEnds
from dingrelay_chaos.system import System
from dingrelay_chaos.truth import TOO_MANY_A_MINUTE, text_of

STRAY_SHARE = 0.1
STRAY_LEAST = 6
"""So many calls may be throttled: calls leave evenly and arrive unevenly."""


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """People whom a limit kept from a message in silence, throttles, and the month's count."""
    truth = evidence.truth
    for entry in truth.entries:
        if entry["reason"] == TOO_MANY_A_MINUTE:
            content = text_of(entry)
            job = next((a.job for a in evidence.asked.messages if a.content == content), content)
            text = f"{entry['user']} did not get {content!r}: too many recipients in the window"
            yield Violation(6, text, job)
    throttled = [each for each in truth.calls if each["verdict"] == "throttled"]
    stray = [each for each in throttled if not each["fault"]]
    if len(stray) > max(STRAY_LEAST, STRAY_SHARE * len(truth.calls)):
        yield Violation(6, f"{len(stray)} of {len(truth.calls)} calls were throttled")
    yield from _month(evidence)


def _month(evidence: Evidence) -> Iterator[Violation]:
    """The fleet counts answered calls; what it can't have counted is what no answer came to."""
    told = json.loads(reading.command("limits", "--json"))
    used = sum(int(row["used"]) for row in told["quota"])
    counted = sum(evidence.truth.audit["quota"].values())
    spoilt = sum(bool(each["fault"]) for each in evidence.truth.calls)
    kinds = (WorkerEnds, ValkeyRestarts, ValkeyFreezes, ValkeyRefuses)
    broken = sum(isinstance(step.what, kinds) for step in evidence.schedule.steps)
    # A process tells five times a second what it has counted, so each that ends may take some
    # along, and so may each time that Redis is away.
    slack = spoilt + broken * evidence.schedule.setting.concurrency
    if abs(used - counted) > slack:
        yield Violation(6, f"{used} calls of the month, and DingTalk counts {counted} (± {slack})")
