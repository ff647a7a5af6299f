"""Documents of the backlog and of workers, the same at every door."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from dingrelay_producers.client.lanes import Pause
from dingrelay_producers.language import tr
from dingrelay_workers.backlog.estimate import STATES, BacklogGroup, Tally


class QueueJobs(BaseModel):
    """Open jobs that have something in common."""

    app: str
    lane: str
    waiting: int
    """They would run if they could: those of the next five."""
    ready: int
    """Nothing keeps them but that others go first."""
    parked: int
    """They wait for their turn at a limit."""
    paused: int
    """They wait for the end of a pause of their lane or sender."""
    snoozed: int
    """They wait for something else, such as the end of an outage."""
    retrying: int
    scheduled: int
    """They are not to run yet, as requested."""
    running: int
    oldest_seconds: float | None
    """How long the oldest of those that wait has waited; null if none waits."""


class QueueLane(QueueJobs):
    """A lane of an application."""

    drain_seconds: float | None
    """Until those that wait are through, if no others come; null if unknown."""
    held_by: Literal["", "worker", "pause", "outage"]
    """Why that is unknown: no worker serves the lane, all that waits is paused, or an outage; empty if no limit is known."""


class QueueGroup(QueueJobs):
    """The jobs of a lane that have kind and sender in common."""

    kind: str
    sender: str


class QueueDocument(BaseModel):
    """The open jobs."""

    exact: bool
    """Whether all were counted; otherwise the counts are projected from a sample."""
    lanes: list[QueueLane]
    groups: list[QueueGroup]
    pauses: list[Pause]
    """The lanes, and senders in them, that are paused."""

    @classmethod
    def of(
        cls,
        tally: Tally,
        lanes: Sequence[BacklogGroup],
        pauses: Sequence[Pause],
    ) -> Self:
        """The document of a count.

        Args:
            tally: all that is open.
            lanes: what waits in each lane.
            pauses: of lanes.
        """

        def fields(group: BacklogGroup, *names: str) -> dict[str, object]:
            oldest = (tally.now - group.since).total_seconds() if group.since else None
            values = {
                name: getattr(group, name) for name in (*names, "app", "lane", "waiting", *STATES)
            }
            return {**values, "oldest_seconds": oldest}

        return cls.model_validate(
            {
                "exact": tally.exact,
                "lanes": [fields(lane, "drain_seconds", "held_by") for lane in lanes],
                "groups": [fields(group, "kind", "sender") for group in tally.groups],
                "pauses": pauses,
            }
        )


class WorkerStatus(BaseModel):
    """A worker that is there: it has given a sign of life within seconds."""

    name: str
    version: str
    """Version of dingrelay; empty for an earlier release."""
    lanes: list[str]
    running: int | None
    """Jobs that it ran when it last said so."""
    started_at: datetime | None
    seen_at: datetime | None
    """When it last said all this; it does so every 20 s."""
    minutes: list[int] = []
    """Jobs that it ran in each of the last minutes, the present one last."""


class ServedLane(BaseModel):
    """A queue, and whether a worker serves it."""

    name: str
    served: bool


class WorkerList(BaseModel):
    """The workers."""

    workers: list[WorkerStatus]
    lanes: list[ServedLane]
    """Lanes of all kinds of jobs."""


def counted(counts: str) -> str:
    """The displayed name of what is counted."""
    if counts.startswith("robot:"):
        return tr("messages of robot {name}", name=counts.removeprefix("robot:"))
    return tr("Webhook & Stream messages") if counts == "pushes" else tr("API calls")
