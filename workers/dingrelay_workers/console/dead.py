"""The page of jobs that have failed for good: by the code of their error, with what can be done."""

from collections import Counter

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.jobs import listing
from dingrelay_workers.console.visit import Visit

MOST_DEAD = 2_000
"""Failed jobs that are grouped, the latest ones."""


@at("/dead", scope="jobs:read")
async def dead(visit: Visit) -> web.Response:
    """Jobs that have failed for good, by the code of their error."""
    chosen = JobFilter(state=State.DEAD)
    found = await listing(visit, chosen).find(chosen, MOST_DEAD)
    counts = Counter(map(_code, found))
    latest = {_code(job): job for job in reversed(found)}
    groups = [(code, count, latest[code]) for code, count in counts.most_common()]
    return visit.page("dead.html", groups=groups, more=len(found) == MOST_DEAD, most=MOST_DEAD)


def _code(job: JobStatus) -> str:
    return job.error.code if job.error else ""
