"""What every operation is: a frozen value of a schedule, which `run` carries out."""

from collections.abc import Callable
from typing import Protocol

from dingrelay_chaos.asked import JobAsked
from dingrelay_chaos.system import System
from dingrelay_producers.errors import DingrelayError, IdempotencyConflict, ServiceUnavailable
from dingrelay_tasks.contract import Contract, ContractError


class Operation(Protocol):
    """Something that is asked for."""

    def run(self, system: System, step: int) -> None:
        """Ask for it. What the system refuses in its own words is no failure."""
        ...


def enqueue(system: System, job: Contract, asked: JobAsked) -> None:
    """Enqueue a job, and write down what became of it."""
    accept(system, asked, lambda: system.client.send(job).id)


def accept(system: System, asked: JobAsked, act: Callable[[], str]) -> None:
    """Do what enqueues a job and answers its id, and write down what became of it."""
    try:
        asked.job = act()
        asked.accepted, asked.answered = "yes", system.now()
    except IdempotencyConflict as conflict:
        asked.job, asked.accepted = conflict.job_id, "no"
    except ServiceUnavailable:
        pass


def answered(act: Callable[[], object]) -> str:
    """What the system said, also where it refused."""
    try:
        return str(act())
    except (DingrelayError, ContractError) as error:
        return type(error).__name__
