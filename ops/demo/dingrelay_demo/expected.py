"""What was asked: written down before any worker sees it, and compared with what DingTalk has at the end."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dingrelay_producers import CampaignRef, JobRef
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.message import payload


@dataclass
class Expected:
    """Everything that was asked.

    Attributes:
        jobs: the jobs of each kind, in order.
        campaigns: the campaigns, in order.
        contents: how many people each message was for, by its content.
        decisions: approval → its end, as a webhook told it.
        joined: people who came into the directory by an event.
    """

    jobs: dict[str, list[JobRef]] = field(default_factory=dict[str, list[JobRef]])
    campaigns: list[CampaignRef] = field(default_factory=list[CampaignRef])
    contents: Counter[str] = field(default_factory=Counter[str])
    decisions: dict[str, str] = field(default_factory=dict[str, str])
    joined: set[str] = field(default_factory=set[str])

    def add(self, ref: JobRef, job: Contract) -> None:
        """One job was accepted."""
        self.jobs.setdefault(job.kind, []).append(ref)
        if isinstance(job, MessageSend):
            self.contents[canonical_json(payload(job.message))] += job.recipients

    def has(self, job_id: str) -> bool:
        """Whether a job is among those that were asked for."""
        return any(ref.id == job_id for refs in self.jobs.values() for ref in refs)

    def note_campaign(self, ref: CampaignRef, content: dict[str, Any], people: int) -> None:
        """One campaign of a message, to so many people, was created."""
        self.campaigns.append(ref)
        self.contents[canonical_json(content)] += people

    @property
    def messages(self) -> list[JobRef]:
        """The message-send jobs."""
        return self.jobs.get(MessageSend.kind, [])

    @property
    def approvals(self) -> list[JobRef]:
        """The approval-create jobs."""
        return self.jobs.get(ApprovalCreate.kind, [])

    @property
    def syncs(self) -> list[JobRef]:
        """The user-sync jobs."""
        return self.jobs.get(UserSync.kind, [])

    def lost(self, delivered: Counter[str]) -> int:
        """Deliveries that were asked for and are in no inbox."""
        return (self.contents - delivered).total()

    def duplicated(self, delivered: Counter[str]) -> int:
        """Deliveries in an inbox that were not asked for, or not again."""
        return (delivered - self.contents).total()


def ended(refs: Iterable[JobRef]) -> list[JobRef]:
    """Those of the jobs that have ended."""
    return [ref for ref in refs if ref.status().state.ended]
