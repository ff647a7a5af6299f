"""Every call, with its time and verdict: sums without an end, single calls up to a cap."""

from collections import Counter, deque
from itertools import islice
from typing import Any

from dingrelay_sandbox.answers import Verdict
from dingrelay_sandbox.windows import Peak, Rate


class Audit:
    """The calls, in the order of arrival.

    Args:
        kept: how many single calls are kept; the oldest go first.
    """

    def __init__(self, kept: int) -> None:
        self._calls: deque[dict[str, Any]] = deque(maxlen=kept)
        self._verdicts: dict[str, Counter[str]] = {}
        self._peaks: dict[tuple[str, str, str], Peak] = {}
        self.faults: Counter[str] = Counter()

    def arrive(self, app_key: str, method: str, api: str, at: float, rate: Rate | None) -> None:
        """Note that an app's call came, whatever becomes of it."""
        peak = self._peaks.setdefault((app_key, method, api), Peak(rate.seconds if rate else 1))
        peak.add(at)

    def record(self, call: dict[str, Any]) -> None:
        """Note what became of a call."""
        self._verdicts.setdefault(call["api"], Counter())[call["verdict"]] += 1
        if call["fault"]:
            self.faults[call["fault"]] += 1
        self._calls.append(call)

    @property
    def latest(self) -> dict[str, Any]:
        """The call that was noted last."""
        return self._calls[-1]

    def verdicts(self) -> dict[str, dict[str, int]]:
        """API path → verdict → calls."""
        return {api: dict(counter) for api, counter in self._verdicts.items()}

    def total(self, verdict: Verdict) -> int:
        """Calls with that verdict over all APIs."""
        return sum(counter[verdict] for counter in self._verdicts.values())

    def most_calls(self) -> dict[str, int]:
        """API path → the most calls of one app, by one method, in any window."""
        most: dict[str, int] = {}
        for (_, _, api), peak in self._peaks.items():
            most[api] = max(most.get(api, 0), peak.most)
        return most

    def calls(self, *, since: float, api: str, limit: int) -> list[dict[str, Any]]:
        """The newest calls that arrived at `since` (Unix seconds) or later, oldest first.

        `counted` says whether a call counts against the month. `monotonic`, `answered` and `closed` are of the clock that
        never jumps: when it arrived, when its answer left, and when its client closed the `connection`, where that did
        so instead of making another call over it.
        """
        newest = (
            call
            for call in reversed(self._calls)
            if call["at"] >= since and call["api"].startswith(api)
        )
        return list(islice(newest, limit))[::-1]
