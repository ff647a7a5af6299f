"""The state of approvals, and which of them a list holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dingrelay_tasks.context import ApprovalState, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTaskStatus:
    """One approver's task.

    Attributes:
        id: DingTalk's number of the task.
        user: the approver.
        state: of the task.
        since: when it began; None if DingTalk did not say.
        ended_at: when it ended; None while it runs, and if DingTalk did not say.
    """

    id: str
    user: str
    state: TaskState
    since: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalStatus:
    """The stored state of an approval.

    Attributes:
        app: the application that follows it.
        instance: DingTalk's id of it.
        state: ``running``, ``approved``, ``refused``, ``terminated`` or ``deleted``.
        source: where the state comes from: ``job`` (its creation), ``event`` or ``look``.
        job: the job that created it; empty if it was created in DingTalk.
        sender: of that job.
        template: its process code.
        originator: the user who requested the approval.
        title: as people see it.
        business_id: its number, as people see it.
        link: a page that shows it in DingTalk.
        created_at: when it was created; to the minute if DingTalk gives no more.
        finished_at: when it ended; None while it runs.
        known_since: when it was stored first, by Redis's clock.
        changed_at: when its stored state last changed.
        tasks: the approvers' tasks, as far as they are known.
    """

    app: str
    instance: str
    state: ApprovalState
    source: str
    job: str
    sender: str
    template: str
    originator: str
    title: str
    business_id: str
    link: str
    created_at: datetime | None
    finished_at: datetime | None
    known_since: datetime
    changed_at: datetime
    tasks: Sequence[ApprovalTaskStatus]

    @property
    def ended(self) -> bool:
        """Whether it is decided, withdrawn or deleted."""
        return self.state != "running"


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """Some approvals, the newest first, and where the next page begins; None if there is none."""

    approvals: Sequence[ApprovalStatus]
    next: tuple[datetime, str, str] | None
