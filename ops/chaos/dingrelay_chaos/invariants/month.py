"""6: the month's count is right: each call that DingTalk and the fleet may count otherwise is explained by itself.

The fleet counts the calls that were answered. What it can't have counted is known of each call at DingTalk: its answer was
spoilt, its client left without taking it, or the worker was killed, or a failover lost its report, within moments.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

from dingrelay_chaos.evidence import Evidence, Finding
from dingrelay_chaos.process import dingrelay
from dingrelay_sandbox.admin import Row

SHOWN_SECONDS, SHOWN_PAUSE = 5.0, 0.5
"""How long a process may take to publish what it has counted, and the pause between two looks."""
IDLE_SECONDS = 25.0
"""A client that has taken an answer keeps the connection for 30 s; one that gives up closes it."""
REPORT_SECONDS = 1.0
"""Within which a worker on a busy machine reports what it has counted."""
BACK_SECONDS = 3.0
"""Within which it does so once Redis is back, or the worker goes on."""
END_SECONDS: Mapping[str, float] = {"kill": 2.0, "terminate": 10.0}
"""Faults that end a worker → within which its connections are closed."""


def violations(evidence: Evidence) -> Iterator[Finding]:
    """A count of the month that the calls do not explain."""
    calls = UncertainCalls(evidence)
    counted = sum(evidence.snapshot.audit["quota"].values())
    deadline = time.monotonic() + SHOWN_SECONDS
    while True:
        document = json.loads(dingrelay("limits", "--json"))
        used = sum(int(row["used"]) for row in document["quota"] if row["counts"] == "calls")
        # Approvals are still looked at, so there may have been calls since the first count.
        since = sum(evidence.system.sandbox.audit()["quota"].values())
        if counted - calls.missed.total() <= used <= since + calls.excess.total():
            return
        if used > since + calls.excess.total() or time.monotonic() > deadline:
            break
        time.sleep(SHOWN_PAUSE)
    missed, excess = (
        ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none"
        for reasons in (calls.missed, calls.excess)
    )
    counts = (
        f"{counted}, then {since}; the fleet may have missed: {missed}; counted in excess: {excess}"
    )
    yield f"{used} calls of the month, and DingTalk counts {counts}", ""


class UncertainCalls:
    """The calls of a run that the fleet may count otherwise than DingTalk does.

    Attributes:
        missed: reason → calls that DingTalk counts, and the fleet perhaps not.
        excess: reason → calls that the fleet perhaps counts, and DingTalk not.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.missed = Counter[str]()
        self.excess = Counter[str]()
        for call in evidence.snapshot.calls:
            if call["counted"] and (reason := self._reason(call)):
                self.missed[reason] += 1
            elif call["fault"] and not call["counted"]:
                self.excess["spoilt"] += 1

    def _reason(self, call: Row) -> str:
        """Why the fleet may not have counted a call; empty where it must have."""
        if call["fault"]:
            return "spoilt"
        answered, closed = call["answered"], call["closed"]
        if closed is not None and (answered is None or closed - answered < IDLE_SECONDS):
            return "given up"
        if answered is None:
            return "under way"
        answered -= self._evidence.system.began
        if self._evidence.lost_between(answered, answered + REPORT_SECONDS):
            return "reported to a Redis that was lost"
        if answered >= self._unreported.get(call["connection"], float("inf")):
            return "of a worker that ended"
        return ""

    @cached_property
    def _unreported(self) -> dict[int, float]:
        """Connection of a worker that ended → since when that may have reported nothing, in seconds from the start."""
        found: dict[int, float] = {}
        ends = [each for each in self._evidence.requests.faults if each.what.name in END_SECONDS]
        for call in self._evidence.snapshot.calls:
            if call["closed"] is None:
                continue
            closed = call["closed"] - self._evidence.system.began
            for end in ends:
                if end.began <= closed <= end.began + END_SECONDS[end.what.name]:
                    # One that is asked to end reports before it does.
                    last = closed - (REPORT_SECONDS if end.what.name == "kill" else 0)
                    until = self._reported_until(last, closed)
                    found[call["connection"]] = min(until, found.get(call["connection"], until))
        return found

    def _reported_until(self, last: float, at: float) -> float:
        """Until when a worker that ended then has reported what it counted, where that was not later than `last`."""
        faults = [each for each in self._evidence.requests.faults if each.what.holds_up_reports]
        for fault in sorted(faults, key=lambda each: each.began, reverse=True):
            if fault.began <= at and fault.ended + BACK_SECONDS >= last:
                last = min(last, fault.began - REPORT_SECONDS)
        return last
