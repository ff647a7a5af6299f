"""``GET /v1/jobs/{id}``, ``GET /v1/jobs`` and ``GET /v1/dead``."""

from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import RFC_3339, AppName, Lane, SenderName
from dingrelay_workers.gateway.jobs.listing import Listing, Position
from dingrelay_workers.history.backend import SqlHistory
from dingrelay_workers.http import paging
from dingrelay_workers.http.job_routes import JOB_LINKS, WaitQuery, found, waited
from dingrelay_workers.http.permissions import may_see
from dingrelay_workers.http.problems import json_response
from dingrelay_workers.http.routes import Answer, ApiCall, Route

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _within_reach(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("must be between the years 1970 and 9000")
    return moment


def _spelled(given: str) -> datetime:
    # A query spells a blank as a plus, and a plus sign, unless it is escaped, as well.
    text = given.replace(" ", "+")
    if not RFC_3339.fullmatch(text):
        raise ValueError("must be a date and time such as 2026-11-25T08:00:00Z")
    return datetime.fromisoformat(text.upper())


class JobPaging(paging.Paging):
    """Which part of a list of jobs."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Jobs at most."""
    cursor: Annotated[str, Field(max_length=1_000), paging.checked(Position.of)] | None = None
    """`next` of the page before."""


Moment = Annotated[AwareDatetime, BeforeValidator(_spelled), AfterValidator(_within_reach)]


class JobQuery(JobPaging):
    """Which jobs to list."""

    state: State | None = None
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,63}$")] | None = None
    sender: SenderName | None = None
    app: AppName | None = None
    lane: Lane | None = None
    since: Moment | None = None
    """Accepted at or after this moment."""
    until: Moment | None = None
    """Accepted before this moment."""


class DeadFilter(JobPaging):
    """Which dead jobs to list."""

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,63}$")] | None = None
    sender: SenderName | None = None
    app: AppName | None = None


class JobPage(BaseModel):
    """Some jobs.

    A page may hold fewer than asked for, even none, although there are more: `next` says so.
    """

    jobs: list[JobStatus]
    next: str | None = None
    """Cursor of the next page; null where this is the last."""


async def get_job(call: ApiCall) -> web.StreamResponse:
    """How a job stands."""
    return await waited(call, await found(call, call.path("id")), pending=200)


async def list_jobs(call: ApiCall) -> web.StreamResponse:
    """Jobs that the key may see, the newest first."""
    asked: JobQuery = call.query
    wanted = JobFilter(**asked.model_dump(exclude=set(JobPaging.model_fields)))
    return await _page(call, keys.RECENT, wanted, history=True)


async def list_dead(call: ApiCall) -> web.StreamResponse:
    """Dead and unknown jobs that the key may see, latest first."""
    asked: DeadFilter = call.query
    wanted = JobFilter(kind=asked.kind, app=asked.app, sender=asked.sender)
    return await _page(call, keys.DEAD, wanted)


async def _page(
    call: ApiCall, index: str, wanted: JobFilter, *, history: bool = False
) -> web.Response:
    asked: JobPaging = call.query
    after = Position.of(asked.cursor) if asked.cursor else None
    older = call.context.service(SqlHistory) if history else None
    page = await Listing(call.context.redis, index, older).page(
        wanted,
        asked.limit,
        after,
        visible=lambda job: may_see(call.key, sender=job.sender, app=job.app),
    )
    jobs = [job.to_json() for job in page.jobs]
    return json_response({"jobs": jobs, "next": page.next.cursor() if page.next else None})


ROUTES = (
    Route(
        method="GET",
        path="/v1/jobs/{id}",
        handler=get_job,
        operation="getJob",
        summary="How a job stands",
        description="With `wait` the answer comes once the job has ended, or when that is over.",
        tag="jobs",
        scope="jobs:read",
        query=WaitQuery,
        answers={200: Answer(description="The job.", model=JobStatus)},
        links={200: JOB_LINKS},
    ),
    Route(
        method="GET",
        path="/v1/jobs",
        handler=list_jobs,
        operation="listJobs",
        summary="Jobs, newest first",
        description=(
            f"Those that the key may see: of the newest {keys.RECENT_JOBS:,}, and behind them of those "
            "that ended, as long as the history is kept. What only the history knows has DingTalk's "
            "ids as its result, and of its error the class and the code."
        ),
        tag="jobs",
        scope="jobs:read",
        query=JobQuery,
        answers={200: Answer(description="A page of jobs.", model=JobPage)},
    ),
    Route(
        method="GET",
        path="/v1/dead",
        handler=list_dead,
        operation="listDead",
        summary="Jobs that ended dead or unknown",
        description="Those that the key may see, latest first.",
        tag="jobs",
        scope="jobs:read",
        query=DeadFilter,
        answers={200: Answer(description="A page of jobs.", model=JobPage)},
    ),
)
