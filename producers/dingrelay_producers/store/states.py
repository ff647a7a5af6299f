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
    """State of a campaign.

    One that is `creating` is hidden: not yet there or, where it has an end, no more.
    """

    CREATING = "creating"
    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in {CampaignState.DONE, CampaignState.CANCELLED}


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
