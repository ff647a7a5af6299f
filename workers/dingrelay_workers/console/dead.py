"""The page of jobs that have failed for good: by the code of their error, with what can be done."""

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_list import MOST_COUNTED
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.jobs import listing
from dingrelay_workers.console.sentences import STATES, meaning
from dingrelay_workers.console.visit import Visit


@at("/dead", scope="jobs:read", menu=("operation", 30, en("Failed")))
async def dead(visit: Visit) -> web.Response:
    """Jobs that have failed for good, or may have happened, by the code of their error."""
    dead_codes = await listing(visit, failed=True).codes(JobFilter())
    groups = [(code, meaning(STATES, code.state)) for code in dead_codes.codes]
    return visit.page("dead.html", groups=groups, more=not dead_codes.complete, most=MOST_COUNTED)
