"""``GET /v1/jobs/{id}``, ``GET /v1/jobs`` and ``GET /v1/dead``."""

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.store import keys
from dingrelay_producers.store.status import JobStatus
from dingrelay_workers.gateway.jobs.listing import Listing, Position
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging
from dingrelay_workers.http.authentication import may_see
from dingrelay_workers.http.job_routes import JOB_LINKS, WaitQuery, found, waited
from dingrelay_workers.http.problems import json_response
from dingrelay_workers.http.routes import HttpCall, Routes


class JobPaging(paging.Paging):
    """Which part of a list of jobs."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Jobs at most."""
    cursor: Annotated[str, Field(max_length=1_000), paging.checked(Position.of)] | None = None
    """`next` of the page before."""


JobQuery = paging.query_of(
    JobFilter, JobPaging, ("state", "kind", "sender", "app", "lane", "since", "until")
)
DeadQuery = paging.query_of(JobFilter, JobPaging, ("kind", "sender", "app"))


class JobPage(BaseModel):
    """Some jobs.

    A page may hold fewer than asked for, even none, although there are more: `next` says so.
    """

    jobs: list[JobStatus]
    next: str | None = None
    """Cursor of the next page; null where this is the last."""


ROUTES = Routes(tag="jobs", scope="jobs:read")


@ROUTES("GET /v1/jobs/{id}", JobStatus, query=WaitQuery, links={200: JOB_LINKS})
async def get_job(call: HttpCall) -> web.StreamResponse:
    """How a job stands.

    With `wait` the answer comes once the job has ended, or when that is over.
    """
    return await waited(call, await found(call, call.path("id")), pending=200)


@ROUTES(
    "GET /v1/jobs",
    JobPage,
    query=JobQuery,
    description=(
        f"Those that the key may see: of the newest {keys.RECENT_JOBS:,}, and behind them of those "
        "that ended, as long as the history is kept. What only the history knows has DingTalk's "
        "ids as its result, and of its error the class and the code."
    ),
)
async def list_jobs(call: HttpCall) -> web.StreamResponse:
    """Jobs, newest first."""
    return await _page(call, keys.RECENT, JobFilter(**call.query.filters()), history=True)


@ROUTES("GET /v1/dead", JobPage, query=DeadQuery)
async def list_dead(call: HttpCall) -> web.StreamResponse:
    """Jobs that ended dead or unknown.

    Those that the key may see, latest first.
    """
    return await _page(call, keys.DEAD, JobFilter(**call.query.filters()))


async def _page(
    call: HttpCall, index: str, wanted: JobFilter, *, history: bool = False
) -> web.Response:
    asked: JobPaging = call.query
    after = Position.of(asked.cursor) if asked.cursor else None
    older = call.context.service(HistoryService) if history else None
    page = await Listing(call.context.redis, index, older).page(
        wanted,
        asked.limit,
        after,
        visible=lambda job: may_see(call.key, sender=job.sender, app=job.app),
    )
    jobs = [job.to_json() for job in page.jobs]
    return json_response({"jobs": jobs, "next": page.next.cursor() if page.next else None})
