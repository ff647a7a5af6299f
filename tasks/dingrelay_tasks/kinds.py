"""Every kind of job: its contract, its body, and what is undone when it ends early."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dingrelay_tasks import (
    api_call,
    approval_create,
    approval_decide,
    approval_follow,
    approval_look,
    campaign_chunk,
    campaign_confirm,
    campaign_recall,
    event,
    media_upload,
    message_recall,
    message_send,
    missed_events,
    person_erase,
    robot_post,
    user_sync,
)
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.names import TASK_PREFIX

Body = Callable[[Any, Context], Awaitable[dict[str, Any]]]
Abandon = Callable[[Any, Context], Awaitable[None]]
SoFar = Callable[[Mapping[str, dict[str, Any]]], dict[str, Any] | None]
Outcomes = Callable[[dict[str, Any], Mapping[str, dict[str, Any]]], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job.

    Attributes:
        contract: the arguments of the job.
        run: what the job does; returns its result as JSON values.
        abandon: records elsewhere that the job ended without being carried out.
        so_far: the result of a job that ended before all was done, by the steps it remembers.
        outcomes: what became of each person that it was for, by the job and the steps it remembers.
        internal: made by dingrelay only, and no part of what others may enqueue.
        on_request: an internal one that an application asks for by a method or a route of its own.
        ephemeral: its record is deleted once it has been settled elsewhere, so a wake-up
            without a record is the echo of one that is over.
    """

    contract: type[Contract]
    run: Body
    abandon: Abandon | None = None
    so_far: SoFar | None = None
    outcomes: Outcomes | None = None
    internal: bool = False
    on_request: bool = False
    ephemeral: bool = False

    @property
    def name(self) -> str:
        """The kind's name, such as ``message-send``."""
        return self.contract.kind

    @property
    def is_reported(self) -> bool:
        """Whether its end is reported to subscribers: it was requested from outside."""
        return self.on_request or not self.internal

    @property
    def task(self) -> str:
        """The name of its Celery task."""
        return TASK_PREFIX + self.contract.kind


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            message_send.MessageSend,
            message_send.run,
            so_far=message_send.so_far,
            outcomes=message_send.outcomes,
        ),
        Kind(
            message_recall.MessageRecall,
            message_recall.run,
            so_far=message_recall.so_far,
            internal=True,
            on_request=True,
        ),
        Kind(user_sync.UserSync, user_sync.run),
        Kind(
            user_sync.DepartmentSync,
            user_sync.run_department,
            user_sync.abandon_department,
            internal=True,
        ),
        Kind(approval_create.ApprovalCreate, approval_create.run),
        Kind(
            approval_decide.ApprovalDecide,
            approval_decide.run,
            internal=True,
            on_request=True,
        ),
        Kind(approval_follow.ApprovalFollow, approval_follow.run, internal=True),
        Kind(approval_look.ApprovalLook, approval_look.run, internal=True, on_request=True),
        Kind(api_call.ApiCall, api_call.run),
        Kind(campaign_chunk.CampaignChunk, campaign_chunk.run, internal=True, ephemeral=True),
        Kind(campaign_recall.CampaignRecall, campaign_recall.run, internal=True),
        Kind(campaign_confirm.CampaignConfirm, campaign_confirm.run, internal=True),
        Kind(media_upload.MediaUpload, media_upload.run, internal=True),
        Kind(robot_post.RobotPost, robot_post.run, internal=True),
        Kind(event.Event, event.run, internal=True),
        Kind(missed_events.MissedEvents, missed_events.run, internal=True),
        Kind(person_erase.PersonErase, person_erase.run, internal=True),
    )
}
