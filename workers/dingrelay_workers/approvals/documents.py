"""Approvals as JSON over HTTP."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from dingrelay_tasks.approval_decide import Remark
from dingrelay_tasks.context import ApprovalState, TaskState
from dingrelay_tasks.contract import AppName, Document, Lane, SenderName, UserId
from dingrelay_workers.http import paging


class ApprovalTaskDocument(BaseModel, from_attributes=True):
    """The task of one person, who decides or has decided."""

    id: str
    user: str
    state: TaskState
    since: datetime | None
    ended_at: datetime | None
    """Null while it runs, and where DingTalk did not report it."""


class ApprovalDocument(BaseModel, from_attributes=True):
    """An approval as it was last reported."""

    app: str
    instance: str
    state: ApprovalState
    source: Literal["job", "event", "look"]
    """Where the state comes from: its creation, an event of DingTalk, or a look-up."""
    job: str
    """The job that created it; empty if it was created in DingTalk."""
    sender: str
    template: str
    originator: str
    title: str
    business_id: str
    link: str
    created_at: datetime | None
    finished_at: datetime | None
    changed_at: datetime
    tasks: list[ApprovalTaskDocument]


class ApprovalPage(BaseModel):
    """Some approvals, the newest first."""

    approvals: list[ApprovalDocument]
    next: str | None = None
    """Cursor of the next page; null on the last page."""


def position(cursor: str) -> tuple[datetime, str, str]:
    """Decode a cursor.

    Raises:
        ValueError: it is none of ours.
    """
    at, app, instance = paging.decode(cursor, datetime, str, str)
    return at, app, instance


Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]+$")]


class ApprovalFilterQuery(paging.Paging):
    """Which approvals to list."""

    app: AppName | None = None
    state: ApprovalState | None = None
    template: Name | None = None
    """Only approvals of this process code."""
    originator: Name | None = None
    """Only approvals that this user requested."""
    waits_for: Name | None = None
    """Only approvals that this user has to decide."""
    cursor: Annotated[str, Field(max_length=1_000), paging.checked(position)] | None = None
    """`next` of the previous page."""


class OneApproval(BaseModel, extra="forbid"):
    """The app of an approval."""

    app: AppName = "default"


class _Asked(Document):
    """The job of an action."""

    app: AppName = "default"
    lane: Lane = "normal"
    sender: SenderName = ""


class TerminationRequest(_Asked):
    """Withdraw a running approval."""

    reason: Remark = ""
    user: UserId | None = None
    """The originator, to withdraw it in their name; null to withdraw it as the system."""


class VerdictRequest(_Asked):
    """Decide in the name of an approver."""

    user: UserId
    remark: Remark = ""


class CommentRequest(_Asked):
    """Add a comment in a user's name."""

    text: Annotated[str, Field(min_length=1, max_length=1024)]
    user: UserId
