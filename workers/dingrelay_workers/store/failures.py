"""What a job's record remembers of its failed attempts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dingrelay_tasks.context import Json
from dingrelay_workers.dingtalk.errors import DingTalkError

SUSPECTED = 3
"""Attempts that are given back at most: more of one job can't be part of an outage's beginning."""


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed attempts by code, and those that may prove to be the beginning of an outage.

    An outage is known after some sick answers only. Those before it cost an attempt each, which is
    given back when the job meets the outage.

    Attributes:
        counts: code → attempts spent on it.
        suspects: codes of the last attempts in a row that may be given back.
    """

    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    suspects: tuple[str, ...] = ()

    @classmethod
    def read(cls, kept: Json) -> "Failures":
        """As `wire` wrote it."""
        return cls(kept.get("counts", {}), tuple(kept.get("suspects", ())))

    @property
    def wire(self) -> Json:
        """As JSON values."""
        return {"counts": dict(self.counts), "suspects": list(self.suspects)}

    def of(self, code: str) -> int:
        """Attempts spent on this code."""
        return self.counts.get(code, 0)

    @property
    def suspected(self) -> int:
        """Attempts that an outage gives back."""
        return len(self.suspects)

    def one_more(self, error: DingTalkError) -> "Failures":
        """With one more attempt spent."""
        counts = {**self.counts, error.code: self.of(error.code) + 1}
        suspects = (*self.suspects, error.code)[-SUSPECTED:] if error.sick else ()
        return Failures(counts, suspects)

    def acquitted(self) -> "Failures":
        """With those attempts given back."""
        counts = dict(self.counts)
        for code in self.suspects:
            counts[code] = counts.get(code, 1) - 1
        return replace(self, counts={code: n for code, n in counts.items() if n > 0}, suspects=())
