"""Jobs over HTTP: shown, listed, and what people do to them."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field
from redis.asyncio import Redis

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_list import JobList, Position
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_producers.store.resolution import LONGEST_INSTANCE, Resolution
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Document, Part
from dingrelay_tasks.sentence import en
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging, problems
from dingrelay_workers.http.authentication import may_see
from dingrelay_workers.http.job_routes import JOB_LINKS, WaitQuery, found, job_response, waited
from dingrelay_workers.http.problems import Problem, json_response
from dingrelay_workers.http.routes import Body, Declare, Handler, HttpCall, RouteAnswer, Routes

PATIENCE = 2.0
"""Seconds for an answer of the database."""
_LARGEST_MOMENT = 10**14


def _place(cursor: str) -> Position:
    place = Position(*paging.decode(cursor, int, str))
    if not 0 <= place.at < _LARGEST_MOMENT:
        raise paging.unknown_cursor()
    return place


class JobPaging(paging.Paging):
    """Which part of a list of jobs."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Jobs at most."""
    cursor: Annotated[str, Field(max_length=1_000), paging.checked(_place)] | None = None
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


ROUTES = Routes(tag="jobs")
_read = partial(ROUTES, scope="jobs:read")
_change = partial(ROUTES, scope="jobs:write", problems=frozenset({409, 422}))


@_read("GET /v1/jobs/{id}", JobStatus, query=WaitQuery, links={200: JOB_LINKS})
async def get_job(call: HttpCall) -> web.StreamResponse:
    """How a job stands.

    With `wait` the answer comes once the job has ended, or when that is over.
    """
    return await waited(call, await found(call, call.path("id")), pending=200)


@_read(
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


@_read("GET /v1/dead", JobPage, query=DeadQuery)
async def list_dead(call: HttpCall) -> web.StreamResponse:
    """Jobs that ended dead or unknown.

    Those that the key may see, latest first.
    """
    return await _page(call, keys.DEAD, JobFilter(**call.query.filters()))


async def _page(
    call: HttpCall, index: str, wanted: JobFilter, *, history: bool = False
) -> web.Response:
    asked: JobPaging = call.query

    async def use(work: Callable[[Redis], Awaitable[Any]]) -> Any:
        async with asking():
            return await work(call.context.redis)

    jobs, after = await JobList(
        use,
        call.context.service(HistoryService) if history else None,
        index=index,
        patience=PATIENCE,
        visible=lambda job: may_see(call.key, sender=job.sender, app=job.app),
    ).page(wanted, asked.limit, _place(asked.cursor) if asked.cursor else None)
    shown = [job.to_json() for job in jobs]
    return json_response({"jobs": shown, "next": paging.encode(*after) if after else None})


REQUEUEABLE = frozenset({State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED})


class Nothing(Part):
    """An empty object, or no body at all."""


class JobResolution(Document):
    """What became of an unknown job: one of the three."""

    instance: Annotated[str, Field(min_length=1, max_length=LONGEST_INSTANCE)] | None = None
    """The approval that it created."""
    not_created: bool = False
    """It created none; it is requeued."""
    sent: bool | None = None
    """Whether the message was sent; if not, it is requeued."""


_JOB = RouteAnswer(description="The job as it stands now.", model=JobStatus)


def _bare(target: str, answers: RouteAnswer | Mapping[int, RouteAnswer], **fields: Any) -> Declare:
    """Declares a route whose body says nothing."""

    def declare(handler: Handler) -> Handler:
        @wraps(handler)
        async def handle(call: HttpCall) -> web.StreamResponse | BaseModel | None:
            if call.body:
                raise Problem.at(problems.INVALID, "", "the body must be an empty object, or none")
            return await handler(call)

        return _change(target, answers, body=Body(model=Nothing, required=False), **fields)(handle)

    return declare


@_bare("POST /v1/jobs/{id}/cancel", _JOB, links={200: JOB_LINKS})
async def cancel_job(call: HttpCall) -> web.Response:
    """Cancel a job that does not run."""
    job = await found(call, call.path("id"))
    state = await call.context.records.cancel(job.id)
    if state.ended and state not in {State.CANCELLED, State.UNKNOWN}:
        raise _conflict(en("the job has ended: it is {}", state))
    return await _now(call, job.id)


@_bare("POST /v1/jobs/{id}/requeue", _JOB, links={200: JOB_LINKS})
async def requeue_job(call: HttpCall) -> web.Response:
    """Give an ended job another life."""
    job = await found(call, call.path("id"))
    before = await call.context.records.requeue(job.id)
    if before not in REQUEUEABLE:
        raise _conflict(
            en("the job is {}; a dead, unknown, cancelled or expired one can be", before)
        )
    return await _now(call, job.id)


@_bare("POST /v1/jobs/{id}/discard", {204: RouteAnswer(description="It is forgotten.")})
async def discard_job(call: HttpCall) -> None:
    """Forget a dead or unknown job for good."""
    job = await found(call, call.path("id"))
    if not await call.context.records.discard(job.id):
        raise _conflict(en("the job is {}; a dead or unknown one can be discarded", job.state))


@_change("POST /v1/jobs/{id}/resolve", _JOB, body=Body(model=JobResolution), links={200: JOB_LINKS})
async def resolve_job(call: HttpCall) -> web.Response:
    """Say what became of an unknown job."""
    document = JobResolution.parse(call.body, strict=True)
    job = await found(call, call.path("id"))
    resolution = Resolution.of(
        job.id,
        job.kind,
        instance=document.instance,
        not_created=document.not_created,
        sent=document.sent,
    )
    before = await call.context.records.resolve(resolution, by=call.key.name)
    if before != State.UNKNOWN:
        raise _conflict(en("the job is {}, and not unknown", before))
    if follower := resolution.follower(job, call.context.settings):
        await call.context.records.enqueue([follower])
    return await _now(call, job.id)


async def _now(call: HttpCall, job_id: str) -> web.Response:
    return job_response(await call.context.records.status(job_id), code=200, located=False)


def _conflict(detail: str) -> Problem:
    return Problem(problems.CONFLICT, detail)
