"""The requests to the system, and the faults that they met: all that the oracle has beside the sandbox's truth."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from dingrelay_chaos.faults import Fault
    from dingrelay_chaos.operations import Broadcast

Accepted = Literal["yes", "perhaps", "no"]
"""Whether a job was accepted. Perhaps: the producer's call said that Redis is away, which it also says
where only the answer was lost."""


What = TypeVar("What")


@dataclass(slots=True)
class Request(Generic[What]):
    """A request that makes one job or campaign.

    Attributes:
        what: the operation that asked for it; of several messages one.
        job: the id of the job or campaign; empty if it is not known.
        answered: when the producer's call returned, in seconds from the start.
    """

    step: int
    at: float
    what: What
    accepted: Accepted = "perhaps"
    job: str = ""
    answered: float = float("inf")


@dataclass(slots=True)
class AlertRequest:
    """An alert to a group, and how often it was asked for and answered well until when."""

    step: int
    at: float
    robot: str
    text: str
    asked: int = 0
    answered: int = 0
    until: float = float("inf")


@dataclass(slots=True)
class Absence:
    """When a person was not there, in seconds from the start."""

    user: str
    since: float
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Command:
    """A command on an existing job or campaign, and the answer."""

    step: int
    at: float
    verb: str
    job: str
    answer: str


@dataclass(slots=True)
class FaultTime:
    """A fault as it was, which is a little later than planned. Times are in seconds from the start."""

    what: "Fault"
    began: float
    ended: float


@dataclass(slots=True)
class Requests:
    """Everything that was asked in a run, all its faults, and what surprised the driver itself.

    Lists are only appended to, so threads may share it.
    """

    jobs: list[Request[Any]] = field(default_factory=list[Request[Any]])
    campaigns: list[Request["Broadcast"]] = field(default_factory=list["Request[Broadcast]"])
    alerts: list[AlertRequest] = field(default_factory=list[AlertRequest])
    commands: list[Command] = field(default_factory=list[Command])
    absences: list[Absence] = field(default_factory=list[Absence])
    faults: list[FaultTime] = field(default_factory=list[FaultTime])
    errors: list[str] = field(default_factory=list[str])
    poison: set[bytes] = field(default_factory=set[bytes])
    """Texts that were put into queues and are no messages."""
    held_elsewhere: dict[str, float] = field(default_factory=dict[str, float])
    """Tag of a message that another Celery app holds → since when."""

    def of(self, kind: type[What]) -> list[Request[What]]:
        """The jobs that a kind of operation asked for."""
        return [each for each in self.jobs if isinstance(each.what, kind)]

    def id_of(self, step: int) -> str:
        """The id of the job or campaign that a step asked for, or empty."""
        made = (each.job for each in (*self.jobs, *self.campaigns) if each.step == step)
        return next(made, "")

    def accepted(self) -> dict[str, str]:
        """Job id → the operation that asked for it, of all jobs that were accepted."""
        return {
            each.job: type(each.what).__name__.lower()
            for each in self.jobs
            if each.job and each.accepted == "yes"
        }

    def was_absent(self, user: str, since: float = 0, until: float = float("inf")) -> bool:
        """Whether a person was not there at some time between two moments."""
        return any(
            each.user == user and each.since <= until and each.until >= since
            for each in self.absences
        )

    def commands_on(self, job: str, verb: str = "") -> list[Command]:
        """The commands on a job, oldest first."""
        return [each for each in self.commands if each.job == job and verb in {"", each.verb}]
