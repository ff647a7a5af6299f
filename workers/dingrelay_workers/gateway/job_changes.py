"""Changes of jobs by people, over HTTP and in the console. The audit has each change before it is made."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dingrelay_producers.client.job_list import Brief
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.resolution import Resolution
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import batched
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.records import GatewayRecords

Change = Literal["cancel", "requeue", "discard", "resolve"]

CHANGEABLE: Mapping[Change, frozenset[State]] = {
    "cancel": frozenset(
        state for state in State if not state.ended or state in {State.CANCELLED, State.UNKNOWN}
    ),
    "requeue": frozenset({State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED}),
    "discard": frozenset({State.DEAD, State.UNKNOWN}),
    "resolve": frozenset({State.UNKNOWN}),
}
"""The states in which a job can be changed so."""
AT_ONCE = 200
"""Jobs that are changed in one step, so that nothing else waits for long."""


class JobChanges:
    """Changes of jobs.

    Every method raises `ServiceUnavailable` where Redis or the database is away, and `Problem` (409) where the
    job is in a state in which it can't be changed so.
    """

    def __init__(self, records: GatewayRecords, audit: AuditService, settings: Settings) -> None:
        self._records = records
        self._audit = audit
        self._settings = settings

    async def cancel(self, job: JobStatus) -> None:
        """Cancel a job that does not run; one that runs is not tried again."""
        await self._note("cancel", job)
        check_change("cancel", await self._records.cancel(job.id))

    async def requeue(self, job: JobStatus) -> None:
        """Give an ended job another life."""
        await self._note("requeue", job)
        check_change("requeue", await self._records.requeue(job.id))

    async def discard(self, job: JobStatus) -> None:
        """Forget a dead or unknown job for good."""
        await self._note("discard", job)
        if not await self._records.discard(job.id):
            raise _conflict("discard", job.state)

    async def resolve(
        self, job: JobStatus, resolution: Resolution, *, by: str, after: Mapping[str, Any]
    ) -> None:
        """Say what became of an unknown job; `after` is what the audit has of that."""
        await self._note("resolve", job, after)
        check_change("resolve", await self._records.resolve(resolution, by=by))
        if follower := resolution.follower(job, self._settings):
            await self._records.enqueue([follower])

    async def change_all(self, change: Literal["requeue", "discard"], jobs: Sequence[Brief]) -> int:
        """Requeue or discard jobs, some at a time; how many there were."""
        changed = 0
        for piece in batched(jobs, AT_ONCE):
            for app, state in dict.fromkeys((job.app, job.state) for job in piece):
                same = [job.id for job in piece if (job.app, job.state) == (app, state)]
                before = {"state": state}
                await self._audit.note(change, "job", same, app=app, before=before)
            some = [job.id for job in piece]
            if change == "discard":
                changed += await self._records.discard_all(some)
            else:
                changed += sum(
                    state in CHANGEABLE["requeue"]
                    for state in await self._records.requeue_all(some)
                )
        return changed

    async def _note(
        self, change: Change, job: JobStatus, after: Mapping[str, Any] | None = None
    ) -> None:
        check_change(change, job.state)
        before = {"state": job.state}
        await self._audit.note(change, "job", [job.id], app=job.app, before=before, after=after)


def check_change(change: Change, state: State) -> None:
    """Refuse a change of a job that is in none of its states.

    Raises:
        Problem: says which state it is in (409).
    """
    if state not in CHANGEABLE[change]:
        raise _conflict(change, state)


def _conflict(change: Change, state: State) -> Problem:
    detail = {
        "cancel": en("the job has ended: it is {}", state),
        "requeue": en("the job is {}; a dead, unknown, cancelled or expired one can be", state),
        "discard": en("the job is {}; a dead or unknown one can be discarded", state),
        "resolve": en("the job is {}, and not unknown", state),
    }
    return Problem(problems.CONFLICT, detail[change])
