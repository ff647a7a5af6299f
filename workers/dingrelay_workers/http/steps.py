"""Makes the steps of verbs of jobs on an event loop: for the gateway and the console."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dingrelay_producers.client.verbs import (
    Accept,
    Audit,
    FindApproval,
    Remember,
    Send,
    Step,
    Steps,
)
from dingrelay_producers.store.flows import run_flow_async
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract
from dingrelay_workers.http.records import GatewayRecords

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class StepMaker:
    """Makes steps.

    Attributes:
        records: of jobs.
        audit: `AuditService`. Where it can't write, the change is not made.
        history: `HistoryService`.
        approvals: `ApprovalService`.
        send: accepts a job of the actor's own for a request.
    """

    records: GatewayRecords
    audit: Any
    history: Any
    approvals: Any
    send: Callable[[Contract], Awaitable[JobStatus]] | None = None

    async def carry_out(self, steps: Steps[_R]) -> _R:
        """Run the body of a verb; its document.

        Raises:
            ServiceUnavailable: Redis or the database is away, besides what the verb raises.
        """
        return await run_flow_async(steps, self._make)

    async def _make(self, step: Step) -> Any:
        match step:
            case Call():
                return await self.records.run(step)
            case Audit():
                return await self.audit.note(**step._asdict())
            case Accept(drafts):
                return await self.records.enqueue(drafts)
            case Remember(job):
                return await self.history.details(job)
            case FindApproval(app, instance):
                return await self.approvals.get(app, instance)
            case Send(job):
                assert self.send, "the door of this verb accepts jobs"
                return await self.send(job)
            case calls:
                return await self.records.run_all(calls)
