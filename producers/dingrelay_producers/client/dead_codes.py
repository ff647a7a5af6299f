"""Dead and unknown jobs, counted by the code of their error."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.sentence import Kept


def code_of(job: JobStatus) -> str:
    """The code of a job's error; "" for none."""
    return job.error.code if job.error else ""


class DeadCode(BaseModel):
    """Jobs of one state and code."""

    state: Literal["dead", "unknown"]
    code: str
    """DingTalk's, or a word of ours."""
    error_class: str
    message: Kept
    """Of the latest of them."""
    hint: Kept
    """What to do about it."""
    jobs: int
    latest: str
    """The id of the latest of them."""
    latest_at: datetime


class DeadCodes(BaseModel):
    """Jobs that will not be tried again by themselves, by their codes, the most first."""

    codes: list[DeadCode]
    complete: bool
    """Whether all were counted, and not the latest ones only."""

    @classmethod
    def of(cls, jobs: Iterable[JobStatus], *, complete: bool) -> Self:
        """Those of these jobs, the latest of which come first."""
        found: dict[tuple[str, str], DeadCode] = {}
        for job in jobs:
            code = code_of(job)
            known = found.get((job.state, code))
            if known is not None:
                known.jobs += 1
                continue
            found[job.state, code] = DeadCode.model_validate(
                {
                    "state": job.state,
                    "code": code,
                    "error_class": job.error.error_class if job.error else "",
                    "message": job.error.message if job.error else "",
                    "hint": job.error.hint if job.error else "",
                    "jobs": 1,
                    "latest": job.id,
                    "latest_at": job.settled_at or job.created_at,
                }
            )
        return cls(codes=sorted(found.values(), key=lambda each: -each.jobs), complete=complete)
