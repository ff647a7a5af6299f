"""``POST /v1/jobs/{id}/cancel`` and its kin: what people do to jobs."""

from collections.abc import Mapping
from functools import wraps
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field

from dingrelay_producers.store.resolution import LONGEST_INSTANCE, Resolution
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Document, Part
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import problems
from dingrelay_workers.http.job_routes import JOB_LINKS, found, job_response
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import Body, Declare, Handler, HttpCall, RouteAnswer, Routes

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


ROUTES = Routes(tag="jobs", scope="jobs:write", problems=frozenset({409, 422}))
_JOB = RouteAnswer(description="The job as it stands now.", model=JobStatus)


def _bare(target: str, answers: RouteAnswer | Mapping[int, RouteAnswer], **fields: Any) -> Declare:
    """Declares a route whose body says nothing."""

    def declare(handler: Handler) -> Handler:
        @wraps(handler)
        async def handle(call: HttpCall) -> web.StreamResponse | BaseModel | None:
            if call.body:
                raise Problem.at(problems.INVALID, "", "the body must be an empty object, or none")
            return await handler(call)

        return ROUTES(target, answers, body=Body(model=Nothing, required=False), **fields)(handle)

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


@ROUTES("POST /v1/jobs/{id}/resolve", _JOB, body=Body(model=JobResolution), links={200: JOB_LINKS})
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
