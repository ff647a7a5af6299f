"""What every operation is: a frozen value of a schedule, which `run` carries out."""

from collections.abc import Callable
from typing import Protocol

from dingrelay_chaos.requests import JobRequest
from dingrelay_chaos.system import System
from dingrelay_producers.errors import DingrelayError, IdempotencyConflict, ServiceUnavailable
from dingrelay_tasks.contract import Contract, ContractError


class Operation(Protocol):
    """Something that is asked for."""

    def run(self, system: System, step: int) -> None:
        """Ask for it. What the system refuses in its own words is no failure."""
        ...


def enqueue(system: System, job: Contract, request: JobRequest) -> None:
    """Enqueue a job, and write down what became of it."""
    accept(system, request, lambda: system.client.send(job).id)


def accept(system: System, request: JobRequest, act: Callable[[], str]) -> None:
    """Do what enqueues a job and answers its id, and write down what became of it."""
    try:
        request.job = act()
        request.accepted, request.answered = "yes", system.now()
    except IdempotencyConflict as conflict:
        request.job, request.accepted = conflict.job_id, "no"
    except ServiceUnavailable:
        pass


def answered(act: Callable[[], object]) -> str:
    """What the system said, also where it refused."""
    try:
        return str(act())
    except (DingrelayError, ContractError) as error:
        return type(error).__name__
