"""``POST /v1/jobs/{id}/cancel`` and its kin: what people do to jobs."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from dingrelay_producers.store.resolution import LONGEST_INSTANCE, Resolution
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Document, Part
from dingrelay_workers.http import problems
from dingrelay_workers.http.job_routes import JOB_LINKS, found, job_response
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import Body, Handler, HttpCall, Route, RouteAnswer

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


async def cancel(call: HttpCall) -> web.StreamResponse:
    """Cancel a job that waits; one that runs is not tried again."""
    job = await found(call, call.path("id"))
    state = await call.context.records.cancel(job.id)
    if state.ended and state not in {State.CANCELLED, State.UNKNOWN}:
        raise _conflict(f"the job has ended: it is {state}")
    return await _now(call, job.id)


async def requeue(call: HttpCall) -> web.StreamResponse:
    """Give an ended job another life."""
    job = await found(call, call.path("id"))
    before = await call.context.records.requeue(job.id)
    if before not in REQUEUEABLE:
        raise _conflict(f"the job is {before}; a dead, unknown, cancelled or expired one can be")
    return await _now(call, job.id)


async def discard(call: HttpCall) -> web.StreamResponse:
    """Forget a dead or unknown job for good."""
    job = await found(call, call.path("id"))
    if not await call.context.records.discard(job.id):
        raise _conflict(f"the job is {job.state}; a dead or unknown one can be discarded")
    return web.Response(status=204)


async def resolve(call: HttpCall) -> web.StreamResponse:
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
        raise _conflict(f"the job is {before}, and not unknown")
    if follower := resolution.follower(job, call.context.settings):
        await call.context.records.enqueue([follower])
    return await _now(call, job.id)


async def _now(call: HttpCall, job_id: str) -> web.Response:
    return job_response(await call.context.records.status(job_id), code=200, located=False)


def _conflict(detail: str) -> Problem:
    return Problem(problems.CONFLICT, detail)


def _checked(handler: Handler) -> Handler:
    """A handler of a route whose body says nothing."""

    async def handle(call: HttpCall) -> web.StreamResponse:
        if call.body:
            raise Problem.at(problems.INVALID, "", "the body must be an empty object, or none")
        return await handler(call)

    return handle


def _route(
    verb: str, handler: Handler, what: str, done: RouteAnswer, body: Any, status: int
) -> Route:
    return Route(
        method="POST",
        path=f"/v1/jobs/{{id}}/{verb}",
        handler=handler if body is JobResolution else _checked(handler),
        operation=f"{verb}Job",
        summary=what,
        tag="jobs",
        scope="jobs:write",
        body=Body(model=body, required=body is JobResolution),
        answers={status: done},
        problems=frozenset({409, 422}),
        links={status: JOB_LINKS} if status == 200 else {},
    )


_JOB = RouteAnswer(description="The job as it stands now.", model=JobStatus)

ROUTES = (
    _route("cancel", cancel, "Cancel a job that does not run", _JOB, Nothing, 200),
    _route("requeue", requeue, "Give an ended job another life", _JOB, Nothing, 200),
    _route(
        "discard",
        discard,
        "Forget a dead or unknown job for good",
        RouteAnswer(description="It is forgotten."),
        Nothing,
        204,
    ),
    _route("resolve", resolve, "Say what became of an unknown job", _JOB, JobResolution, 200),
)
