"""Observers of runs of jobs, notified as they begin and end."""

from typing import Protocol

from dingrelay_producers.store.states import State
from dingrelay_tasks.kinds import Kind
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.store.claim import Claim


class Observer(Protocol):
    """Notified of each run of a job that this process has claimed; it neither waits nor fails."""

    def began(self, kind: Kind, claim: Claim) -> None:
        """A run has begun."""
        ...

    def ended(
        self, kind: Kind, claim: Claim, outcome: Outcome, state: State, seconds: float
    ) -> None:
        """A run has ended, and that is written.

        Args:
            kind: of the job.
            claim: the job.
            outcome: where the run led.
            state: the job's state by now; `cancelled` where that was asked for while it ran.
            seconds: how long the run took.
        """
        ...


class Nobody:
    """An `Observer` that takes no interest in runs."""

    def began(self, kind: Kind, claim: Claim) -> None:
        """Nothing."""

    def ended(
        self, kind: Kind, claim: Claim, outcome: Outcome, state: State, seconds: float
    ) -> None:
        """Nothing."""
