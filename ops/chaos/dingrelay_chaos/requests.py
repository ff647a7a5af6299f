"""What was asked of the system, and which faults it met: all that the oracle knows beside the sandbox's truth."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dingrelay_chaos.faults import Fault

Accepted = Literal["yes", "perhaps", "no"]
"""Whether a job was accepted. Perhaps: the producer's call said that Redis is away, which it also says
where only the answer was lost."""


@dataclass(slots=True)
class JobRequest:
    """A request that makes one job.

    Attributes:
        answered: when the producer's call returned, in seconds from the start.
    """

    step: int
    at: float
    accepted: Accepted = field(default="perhaps", kw_only=True)
    job: str = field(default="", kw_only=True)
    answered: float = field(default=float("inf"), kw_only=True)


@dataclass(slots=True)
class MessageRequest(JobRequest):
    """A message.

    Attributes:
        bare: a bare Celery client's: it has Celery's guarantee until a worker has made the record.
        not_before: seconds from the start before which it must not be sent; its ``send_at``.
        not_after: seconds from the start after which it need not be sent; its ``expires_at``.
        same_as: the step whose idempotency key it has.
        addressed: recipients by something else than a userid: kind of address, address, and whose it is.
    """

    content: str
    users: tuple[str, ...]
    departments: tuple[int, ...] = ()
    everyone: bool = False
    allow_duplicate: bool = False
    bare: bool = False
    not_before: float | None = None
    not_after: float | None = None
    same_as: int | None = None
    addressed: tuple[tuple[str, str, str], ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """Every recipient that it names."""
        return (*self.users, *(user for _, _, user in self.addressed))


@dataclass(slots=True)
class ApprovalRequest(JobRequest):
    """An approval. Equal ones have the same `tag`, which is in the form."""

    tag: str


@dataclass(slots=True)
class SyncRequest(JobRequest):
    """A user-sync."""


@dataclass(slots=True)
class ActionRequest(JobRequest):
    """Something that a job does to an approval; no other has its remark."""

    verb: str
    instance: str
    user: str
    remark: str


@dataclass(slots=True)
class CampaignRequest:
    """A campaign. The texts of its people all hold `tag`."""

    step: int
    at: float
    tag: str
    users: tuple[str, ...]
    campaign: str = ""
    started: bool = False


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
class RobotRequest(JobRequest):
    """A message to a group of robots; its text is nowhere else."""

    text: str


@dataclass(slots=True)
class Absence:
    """When a person was not there, in seconds from the start."""

    user: str
    since: float
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Command:
    """What was asked of a job or campaign that there is, and the answer."""

    step: int
    at: float
    verb: str
    job: str
    answer: str


@dataclass(slots=True)
class Requests:
    """Everything that was asked in a run. Lists are only appended to, so threads may share it."""

    messages: list[MessageRequest] = field(default_factory=list[MessageRequest])
    approvals: list[ApprovalRequest] = field(default_factory=list[ApprovalRequest])
    campaigns: list[CampaignRequest] = field(default_factory=list[CampaignRequest])
    syncs: list[SyncRequest] = field(default_factory=list[SyncRequest])
    actions: list[ActionRequest] = field(default_factory=list[ActionRequest])
    alerts: list[AlertRequest] = field(default_factory=list[AlertRequest])
    posts: list[RobotRequest] = field(default_factory=list[RobotRequest])
    commands: list[Command] = field(default_factory=list[Command])
    absences: list[Absence] = field(default_factory=list[Absence])

    def everything(self) -> list[JobRequest]:
        """All jobs that were asked for."""
        return [*self.messages, *self.approvals, *self.syncs, *self.actions, *self.posts]

    def job_of(self, step: int) -> str:
        """The id of the job that a step asked for, or empty."""
        return next((request.job for request in self.everything() if request.step == step), "")

    def campaign_of(self, step: int) -> str:
        """The id of the campaign that a step created, or empty."""
        return next((each.campaign for each in self.campaigns if each.step == step), "")

    def jobs(self) -> dict[str, str]:
        """Job id → what it is, of all that were accepted."""
        return {
            request.job: type(request).__name__.removesuffix("Request").lower()
            for request in self.everything()
            if request.job and request.accepted == "yes"
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


@dataclass(slots=True)
class FaultTime:
    """A fault as it was, which is a little later than planned. Times are in seconds from the start."""

    what: "Fault"
    began: float
    ended: float


@dataclass(slots=True)
class Journal:
    """All faults of a run, and what surprised the driver itself."""

    faults: list[FaultTime] = field(default_factory=list[FaultTime])
    errors: list[str] = field(default_factory=list[str])
