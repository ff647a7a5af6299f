"""The states of jobs and campaigns: the same words in code, logs, metrics, command line and HTTP."""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """State of a job.

    ``queued → running → done | dead | unknown``; ``snoozed`` and ``retrying`` go back to
    ``running``; ``cancelled``, ``expired`` and ``duplicate`` are ends too.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SNOOZED = "snoozed"
    RETRYING = "retrying"
    DONE = "done"
    DEAD = "dead"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in ENDS


class CampaignState(StrEnum):
    """State of a campaign, in the words of 0.2.0.

    ``draft → running ⇄ paused → done | cancelled``. One that is `creating` in one request, or `deleting`, is hidden.
    `CampaignStage` has finer words for drafts and for what runs.
    """

    CREATING = "creating"
    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    DELETING = "deleting"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in {CampaignState.DONE, CampaignState.CANCELLED}


class CampaignStage(StrEnum):
    """Position of a campaign in its life: `CampaignState`, with finer words.

    ``draft ⇄ ready → scheduled → running ⇄ paused → done | cancelled``: a `draft` is written, a `ready` one is checked, and
    its text, its people and its rules are frozen. A change makes it a draft again. A `scheduled` one runs from its time on.
    """

    DRAFT = "draft"
    READY = "ready"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


ENDS = frozenset(
    {
        State.DONE,
        State.DEAD,
        State.UNKNOWN,
        State.CANCELLED,
        State.EXPIRED,
        State.DUPLICATE,
    }
)


class OwnershipLost(Exception):
    """Another worker owns the job by now, or it has ended; this run must not act for it any more."""


class Ownership(NamedTuple):
    """A run of a job.

    Attributes:
        job: the job's id.
        owner: of this claim; each has another.
        fence: grows with each owner. A failover may give one number out twice, so a write names
            both and is refused unless both are the record's (`places.lua`).
    """

    job: str
    owner: str
    fence: int
