"""The nine invariants, a file for what each is about. Each is a generator of what does not hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dingrelay_chaos.evidence import Evidence, Finding
from dingrelay_chaos.invariants import (
    approvals,
    campaigns,
    directory,
    jobs,
    limits,
    messages,
    month,
    traces,
    webhooks,
)

INVARIANTS: tuple[tuple[int, Callable[[Evidence], Iterator[Finding]]], ...] = (
    (1, jobs.violations),
    (2, messages.violations),
    (2, messages.violations_of_alerts),
    (2, messages.violations_of_posts),
    (3, approvals.violations),
    (4, directory.violations),
    (5, campaigns.violations),
    (6, limits.violations),
    (6, month.violations),
    (7, traces.violations),
    (8, approvals.violations_of_states),
    (9, webhooks.violations),
)


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and the job, or the content, that its story is about."""

    invariant: int
    text: str
    job: str = ""

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.text}"


def verify(evidence: Evidence) -> list[Violation]:
    """Everything that does not hold."""
    return [
        Violation(number, text, job)
        for number, check in INVARIANTS
        for text, job in check(evidence)
    ]
