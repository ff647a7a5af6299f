"""Approvals."""

from dataclasses import dataclass
from typing import Any

from dingrelay_chaos.operations.operation import enqueue
from dingrelay_chaos.requests import ApprovalRequest
from dingrelay_chaos.system import System
from dingrelay_tasks import ApprovalCreate


class Rows(tuple[Any, ...]):
    """The rows of a table in a form: each a tuple of (column, value)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Approve:
    """An approval. Those of one tag have equal forms."""

    tag: str
    originator: str
    process_code: str
    form: tuple[tuple[str, Any], ...]
    key: str | None = None

    def run(self, system: System, step: int) -> None:
        """Enqueue it."""
        request = ApprovalRequest(step, system.now(), self.tag)
        system.requests.approvals.append(request)
        job = {
            "process_code": self.process_code,
            "originator": self.originator,
            "form": {"事由": self.tag, **{name: _thawed(value) for name, value in self.form}},
            "idempotency_key": self.key,
        }
        enqueue(system, ApprovalCreate.parse(job), request)


def _thawed(value: Any) -> Any:
    if isinstance(value, Rows):
        return [dict(row) for row in value]
    return list(value) if isinstance(value, tuple) else value
