"""Arguments of the client, checked before anything is asked of Redis."""

import math
from collections.abc import Iterable
from typing import Any

from dingrelay_producers.errors import InvalidArgument
from dingrelay_tasks.contract import Contract


def checked_job(job: Any) -> Contract:
    """A job of a kind.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(job, Contract):
        raise InvalidArgument("job", "a MessageSend, UserSync or ApprovalCreate", job)
    return job


def checked_jobs(jobs: Any) -> Iterable[Contract]:
    """Jobs in a list, a generator or another iterable; each is checked when its turn comes.

    Raises:
        InvalidArgument: it can't be iterated over, or is one job, or a text.
    """
    if isinstance(jobs, (Contract, str, bytes, dict)) or not isinstance(jobs, Iterable):
        raise InvalidArgument("jobs", "an iterable of jobs", jobs)
    return map(checked_job, jobs)


def checked_id(job_id: Any) -> str:
    """A job's id.

    Raises:
        InvalidArgument: it can't be one.
    """
    if not isinstance(job_id, str) or not job_id or not job_id.isprintable():
        raise InvalidArgument("job_id", "the id of a job, a text", job_id)
    return job_id


def checked_limit(limit: Any) -> int:
    """How many at most.

    Raises:
        InvalidArgument: it is no whole number above 0.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit < 2**31:
        raise InvalidArgument("limit", "a whole number above 0", limit)
    return limit


def checked_timeout(timeout: Any) -> float:
    """Seconds to wait; infinite is for ever.

    Raises:
        InvalidArgument: it is no number.
    """
    if not isinstance(timeout, (int, float)) or math.isnan(timeout):
        raise InvalidArgument("timeout", "seconds", timeout)
    return timeout
