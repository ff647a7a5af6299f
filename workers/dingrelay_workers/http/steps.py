"""Makes the steps of verbs of jobs on an event loop: for the gateway and the console."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from dingrelay_producers.client.verbs import (
    Accept,
    Admission,
    Admit,
    Audit,
    FindApproval,
    Remember,
    Step,
    Steps,
)
from dingrelay_producers.errors import QueueFull
from dingrelay_producers.store.flows import run_flow_async
from dingrelay_producers.store.record import Enqueued
from dingrelay_producers.store.scripts import Call
from dingrelay_workers.http.metrics import GatewayMetrics
from dingrelay_workers.http.records import GatewayRecords, QueueDepths

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class StepMaker:
    """Makes steps.

    Attributes:
        records: of jobs.
        audit: `AuditService`. Where it can't write, the change is not made.
        history: `HistoryService`.
        approvals: `ApprovalService`; this and the two above are None for bodies without such steps.
        depths: of queues that take no more jobs than so many; None where each takes any number.
        metrics: counts the jobs that are accepted; None for no metrics.
    """

    records: GatewayRecords
    audit: Any = None
    history: Any = None
    approvals: Any = None
    depths: QueueDepths | None = None
    metrics: GatewayMetrics | None = None

    def carry_out(self, steps: Steps[_R]) -> Awaitable[_R]:
        """Run the body of a verb; its document.

        Raises:
            ServiceUnavailable: Redis or the database is away, besides what the verb raises.
        """
        return run_flow_async(steps, self._make)

    def _make(self, step: Step) -> Any:
        match step:
            case Call():
                return self.records.run(step)
            case Audit():
                return self.audit.note(**step._asdict())
            case Admit():
                return self._admit(step)
            case Accept():
                return self._accept(step)
            case Remember(job):
                return self.history.details(job)
            case FindApproval(app, instance):
                return self.approvals.get(app, instance)
            case calls:
                return self.records.run_all(calls)

    async def _admit(self, step: Admit) -> Admission:
        served = await self.records.read_served(step.names)
        full: dict[str, QueueFull] = {}
        if self.depths is not None:
            for queue in step.queues:
                try:
                    await self.depths.check(queue)
                except QueueFull as refusal:
                    full[queue] = refusal
        return served, full

    async def _accept(self, step: Accept) -> list[Enqueued]:
        answers = await self.records.enqueue(*step)
        if self.metrics:
            accepted = zip(step.drafts, answers, strict=True)
            self.metrics.accepted([draft for draft, answer in accepted if answer.created])
        return answers
