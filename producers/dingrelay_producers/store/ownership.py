"""The owner of a running job, which every write of a run names."""

from typing import NamedTuple


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
