"""The nine invariants, a file for what each is about. Each is a generator of violations."""

from collections.abc import Callable, Iterator

from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.invariants import (
    alerts,
    approval_states,
    approvals,
    campaigns,
    directory,
    jobs,
    limits,
    messages,
    traces,
    webhooks,
)
from dingrelay_chaos.system import System

INVARIANTS: tuple[Callable[[Evidence, System], Iterator[Violation]], ...] = (
    jobs.violations,
    messages.violations,
    alerts.violations,
    approvals.violations,
    directory.violations,
    campaigns.violations,
    limits.violations,
    traces.violations,
    approval_states.violations,
    webhooks.violations,
)


def verify(evidence: Evidence, system: System) -> list[Violation]:
    """Everything that does not hold."""
    return [found for check in INVARIANTS for found in check(evidence, system)]
