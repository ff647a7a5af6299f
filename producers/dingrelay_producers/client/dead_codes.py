"""Dead and unknown jobs, counted by the code of their error."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from dingrelay_producers.client.job_list import Brief
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.sentence import Kept


class FailedSender(BaseModel):
    """The part of one sender in jobs that failed."""

    app: str
    sender: str
    """Empty for none."""
    jobs: int


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
    first_at: datetime
    """When the first of those that are counted failed."""
    senders: list[FailedSender]
    """Senders of the jobs, the most first, ten at most."""


SENDERS = 10
"""Senders of a code that are named."""
_SAID = ("code", "error_class", "message", "hint")


class DeadCodes(BaseModel):
    """Jobs that will not be tried again by themselves, by their codes, the most first."""

    codes: list[DeadCode]
    complete: bool
    """Whether all were counted, and not the latest ones only."""

    @classmethod
    def of(cls, groups: Iterable[tuple[JobStatus, Sequence[Brief]]], *, complete: bool) -> Self:
        """The jobs of each state and code, with the latest of them."""
        codes: list[DeadCode] = []
        for job, briefs in groups:
            shares = Counter((brief.app, brief.sender) for brief in briefs)
            counts = {
                "state": job.state,
                "jobs": len(briefs),
                "latest": job.id,
                "first_at": moment_of(min(brief.at for brief in briefs)),
                "senders": [
                    {"app": app, "sender": sender, "jobs": jobs}
                    for (app, sender), jobs in shares.most_common(SENDERS)
                ],
            }
            error = {name: getattr(job.error, name, "") for name in _SAID}
            at = job.settled_at or job.created_at
            codes.append(DeadCode.model_validate({**counts, **error, "latest_at": at}))
        return cls(codes=sorted(codes, key=lambda code: -code.jobs), complete=complete)
