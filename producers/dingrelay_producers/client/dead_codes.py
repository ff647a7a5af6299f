"""Dead and unknown jobs, counted by the code of their error."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.sentence import Kept


class DeadCode(BaseModel):
    """Jobs of one state and code."""

    state: Literal["dead", "unknown"]
    code: str
    """DingTalk's, or a word of ours."""
    error_class: str
    message: Kept
    """Message of the latest of them."""
    hint: Kept
    """Remedy."""
    jobs: int
    latest: str
    """The id of the latest of them."""
    latest_at: datetime


_SAID = ("code", "error_class", "message", "hint")


class DeadCodes(BaseModel):
    """Jobs that will not be tried again by themselves, by their codes, the most first."""

    codes: list[DeadCode]
    complete: bool
    """Whether all were counted, and not the latest ones only."""

    @classmethod
    def of(cls, latest: Iterable[tuple[JobStatus, int]], *, complete: bool) -> Self:
        """The latest job of each state and code, with how many there are."""
        codes: list[DeadCode] = []
        for job, jobs in latest:
            counts = {"state": job.state, "jobs": jobs, "latest": job.id}
            error = {name: getattr(job.error, name, "") for name in _SAID}
            at = job.settled_at or job.created_at
            codes.append(DeadCode.model_validate({**counts, **error, "latest_at": at}))
        return cls(codes=sorted(codes, key=lambda code: -code.jobs), complete=complete)
