"""What is known in SQL of approvals after their creation, as a body sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

ApprovalState = Literal["running", "approved", "refused", "terminated", "deleted"]
TaskState = Literal["running", "agreed", "refused", "redirected", "cancelled"]
Source = Literal["event", "look"]
"""How it was learnt: DingTalk sent an event, or was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTask:
    """What one person is asked to decide.

    Attributes:
        id: DingTalk's number of it.
        user: who decides.
        state: how that stands.
        since: when they were asked; None if that was not reported.
        ended: when it ended; None while it runs, and where that was not reported.
    """

    id: str
    user: str
    state: TaskState
    since: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalChange:
    """What was reported of an approval, by an event or in answer to a question. Empty: not reported.

    Attributes:
        instance: its id.
        source: how it was learnt.
        state: how it stands; None where only a task was reported.
        tasks: those that were reported.
        created: when it was made.
        finished: when it ended.
    """

    instance: str
    source: Source
    state: ApprovalState | None = None
    tasks: Sequence[ApprovalTask] = ()
    template: str = ""
    originator: str = ""
    title: str = ""
    business_id: str = ""
    link: str = ""
    created: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """An approval in the table.

    Attributes:
        state: as last reported.
        ended: it will not move any more.
        looks: how often it was asked for since it was made.
        look_at: when to ask for it again; None once it has ended, and each of its tasks.
        known_since: since when it is in the table.
    """

    state: ApprovalState
    ended: bool
    looks: int
    look_at: datetime | None
    known_since: datetime


class ApprovalStates(Protocol):
    """The table of approvals of the job's app. Its moments are of Redis's clock."""

    @property
    def follows(self) -> bool:
        """Whether any approval is followed."""
        ...

    async def follow(self, instance: str, *, template: str, originator: str) -> None:
        """Have an approval that this job created followed, by one job of its own."""
        ...

    async def open(
        self, instance: str, *, job: str, template: str, originator: str, sender: str, at: datetime
    ) -> Followed:
        """The approval's row; made if it is not there yet.

        Args:
            instance: its id.
            job: the job that created it; empty for none of ours.
            template: its process code.
            originator: who asked for it.
            sender: who asked for the job.
            at: now.
        """
        ...

    async def spend_look(self) -> None:
        """Take one of the month's calls that are for looks.

        Raises:
            Wait: their share of the month is used up.
        """
        ...

    async def record(self, change: ApprovalChange, *, at: datetime) -> Followed | None:
        """Write what was reported, where it is news; None if nobody follows the approval.

        What has ended does not go back: events come late, twice and in any order.
        """
        ...
