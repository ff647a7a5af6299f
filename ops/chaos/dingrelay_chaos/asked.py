"""What was asked of the system: all that the oracle knows beside the sandbox's truth."""

from dataclasses import dataclass, field
from typing import Literal

Accepted = Literal["yes", "perhaps", "no"]
"""Whether a job was accepted. Perhaps: the producer was told that Redis is away, which is also
what it is told where only the answer was lost."""


@dataclass(slots=True)
class MessageAsked:
    """A message that somebody asked for."""

    step: int
    at: float
    content: str
    users: tuple[str, ...]
    departments: tuple[int, ...] = ()
    everyone: bool = False
    accepted: Accepted = "perhaps"
    job: str = ""
    answered: float = float("inf")
    """When the producer was told that it is accepted, in seconds from the start."""
    bare: bool = False
    """A bare Celery client's: it has Celery's guarantee until a worker has made the record."""
    not_before: float | None = None
    """Seconds from the start before which it must not be sent; its ``send_at``."""
    not_after: float | None = None
    """Seconds from the start after which it need not be sent; its ``expires_at``."""
    same_as: int | None = None
    """The step whose idempotency key it has."""


@dataclass(slots=True)
class ApprovalAsked:
    """An approval. Equal ones have the same `tag`, which is in the form."""

    step: int
    at: float
    tag: str
    accepted: Accepted = "perhaps"
    job: str = ""
    answered: float = float("inf")
    """When the producer was told that it is accepted, in seconds from the start."""


@dataclass(slots=True)
class CampaignAsked:
    """A campaign. The texts of its people all hold `tag`."""

    step: int
    at: float
    tag: str
    users: tuple[str, ...]
    campaign: str = ""
    started: bool = False


@dataclass(slots=True)
class SyncAsked:
    """A user-sync."""

    step: int
    at: float
    accepted: Accepted = "perhaps"
    job: str = ""
    answered: float = float("inf")
    """When the producer was told that it is accepted, in seconds from the start."""


JobAsked = MessageAsked | ApprovalAsked | SyncAsked
"""Whatever is one job."""


@dataclass(frozen=True, slots=True)
class Command:
    """What was asked of a job that there is, and the answer."""

    step: int
    at: float
    verb: str
    job: str
    answer: str


@dataclass(slots=True)
class Asked:
    """Everything that was asked in a run. Lists are only appended to, so threads may share it."""

    messages: list[MessageAsked] = field(default_factory=list[MessageAsked])
    approvals: list[ApprovalAsked] = field(default_factory=list[ApprovalAsked])
    campaigns: list[CampaignAsked] = field(default_factory=list[CampaignAsked])
    syncs: list[SyncAsked] = field(default_factory=list[SyncAsked])
    commands: list[Command] = field(default_factory=list[Command])
    absent: set[str] = field(default_factory=set[str])
    """People who were not there at some time during the run."""

    def job_of(self, step: int) -> str:
        """The id of the job that a step asked for, or empty."""
        return next((asked.job for asked in self.everything() if asked.step == step), "")

    def everything(self) -> list[JobAsked]:
        """All jobs that were asked for."""
        return [*self.messages, *self.approvals, *self.syncs]

    def campaign_of(self, step: int) -> str:
        """The id of the campaign that a step created, or empty."""
        return next((each.campaign for each in self.campaigns if each.step == step), "")

    def jobs(self) -> dict[str, str]:
        """Job id → what it is, of all that were accepted."""
        return {
            asked.job: type(asked).__name__.removesuffix("Asked").lower()
            for asked in self.everything()
            if asked.job and asked.accepted == "yes"
        }

    def commands_on(self, job: str, verb: str = "") -> list[Command]:
        """The commands on a job, oldest first."""
        return [each for each in self.commands if each.job == job and verb in {"", each.verb}]
