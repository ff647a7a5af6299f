"""What is known in SQL of approvals after their creation, as a body sees it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

ApprovalState = Literal["running", "approved", "refused", "terminated", "deleted"]
TaskState = Literal["running", "agreed", "refused", "redirected", "cancelled"]
Source = Literal["event", "look"]
"""The source of a change: an event from DingTalk, or a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTask:
    """The task of one person, who is to decide.

    Attributes:
        id: DingTalk's number of it.
        user: the one who decides.
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
        source: an event or a query.
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
        looks: how often it was queried since it was made.
        look_at: when to ask for it again; None once it has ended, and each of its tasks.
    """

    state: ApprovalState
    ended: bool
    looks: int
    look_at: datetime | None


class ApprovalStates(Protocol):
    """The table of approvals of the job's app. Its moments are of Redis's clock."""

    @property
    def follows(self) -> bool:
        """Whether any approval is followed."""
        ...

    async def follow(self, instance: str, *, at: datetime) -> None:
        """Have an approval that this job created followed, by one job of its own. `at`: now."""
        ...

    async def open(self, instance: str, *, at: datetime) -> Followed | None:
        """The approval's row; made if it is not there yet. None if it is followed for another app."""
        ...

    def charged_look(self) -> AbstractAsyncContextManager[None]:
        """Take one of the month's calls that are for looks; an error in the block gives it back.

        Raises:
            Wait: their share of the month is used up.
        """
        ...

    async def look_at_all(self, at: datetime) -> None:
        """Have DingTalk asked now for each approval that is followed: events may be lost."""
        ...

    async def record(
        self, change: ApprovalChange, *, at: datetime, early: bool = False
    ) -> Followed | None:
        """Write what the reported change adds; None if the approval is not followed.

        Reports lead to the same in any order, late and repeated.

        Args:
            change: what was reported.
            at: when; of a look, when it began.
            early: a job may still be creating the approval, of which nothing is known here yet.
        """
        ...
