"""``POST /v1/messages`` and its kin: one job a request."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from dingrelay_producers.store import record
from dingrelay_producers.store.record import Draft, Enqueued, moment_of
from dingrelay_producers.store.served_names import names_of
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.kinds import KINDS, Kind
from dingrelay_workers.http import problems
from dingrelay_workers.http.authentication import permitted, sees_job
from dingrelay_workers.http.dingtalk_permissions import check_visible
from dingrelay_workers.http.paging import Query
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import Body, Declare, HttpCall, RouteAnswer, Routes, links

_LOCATION = {"Location": "The URL of the job."}
NO_WORKER = '199 dingrelay "no worker has been seen yet: the names in the request are unchecked"'
"""Header ``Warning`` of a job that was accepted while no worker had ever published what it serves."""


class WaitQuery(Query):
    """The query of a route that can wait for a job's end."""

    wait: Annotated[int, Field(ge=1, le=60)] | None = None
    """Seconds to wait for the job's end."""


def job_response(status: JobStatus, *, code: int, located: bool = True) -> web.Response:
    """A job as an answer."""
    headers = {"Content-Type": "application/json"}
    if located:
        headers["Location"] = location(status.id)
    # A record may hold what UTF-8 can't spell, from a client without our package.
    body = status.model_dump_json(by_alias=True).encode("utf-8", "backslashreplace")
    return web.Response(status=code, body=body, headers=headers)


def location(job_id: str) -> str:
    """The path of a job."""
    return f"/v1/jobs/{job_id}"


async def waited(call: HttpCall, status: JobStatus, *, pending: int) -> web.Response:
    """The job as an answer, once it has ended, the query's `wait` is over or the gateway stops."""
    seconds = call.query.wait
    waits = seconds and not status.state.ended
    if waits and await call.context.ends.wait(status.id, seconds, until_stop=True):
        status = await call.context.records.status(status.id)
    code = 200 if seconds and status.state.ended else pending
    response = job_response(status, code=code)
    response.headers.update(call.headers)
    return response


def accepted(draft: Draft, answer: Enqueued) -> JobStatus | None:
    """A job that was written just now; None if its record must be read for that."""
    if not answer.created:
        return None
    return JobStatus.of_draft(draft, created=moment_of(answer.at))


async def send(call: HttpCall, contract: type[Contract]) -> JobStatus:
    """Accept the job of a body; how it stands, which is not new if its key was used before.

    Raises:
        Problem: the key may not (403), its idempotency key is another job's (409), the lane is
            full (429).
        ContractError: the body is not what the contract says, or too large a job.
        ServiceUnavailable: Redis is away; nothing was accepted, unless its answer alone was lost.
    """
    job = permitted(contract, call.body, call.key, call.context.sender_of(call.key))
    await check_visible(call.context, call.key, job)
    return await accept(call, job, once=call.once)


async def accept(call: HttpCall, job: Contract, *, once: str | None) -> JobStatus:
    """Accept a job that the key may ask for; how it stands, as for `send`.

    `once` is the idempotency key of a job that names none.
    """
    context = call.context
    context.settings.check_target(job)
    await context.records.check_served(names_of(job), call.key.sees_name)
    if not context.records.served.any_worker:
        call.headers["Warning"] = NO_WORKER
    await context.depths.check(job.queue)
    job_key = getattr(job, "idempotency_key", None)
    draft = record.draft(job, key=None if job_key else once)
    [answer] = await context.records.enqueue([draft])
    if answer.conflict:
        raise key_conflict()
    if answer.created:
        context.metrics.jobs.labels(draft.kind, draft.lane).inc()
    status = accepted(draft, answer) or await context.records.status(draft.id)
    if not sees_job(call.key, status):
        raise key_conflict()
    return status


def key_conflict() -> Problem:
    """An idempotency key that belongs to another job, perhaps another sender's: its id is withheld."""
    return Problem.at(
        problems.CONFLICT,
        "/idempotency_key",
        "belongs to a job with another payload or of another sender",
    )


JOB_LINKS = links("getJob", "cancelJob", "requeueJob", "discardJob")


def makes_job(routes: Routes, target: str, **fields: Any) -> Declare:
    """Declares a route that makes one job."""
    ended = "The job has ended within `wait`, however it ended."
    return routes(
        target,
        {
            202: RouteAnswer(
                description="The job is accepted.", model=JobStatus, headers=_LOCATION
            ),
            200: RouteAnswer(description=ended, model=JobStatus, headers=_LOCATION),
        },
        query=WaitQuery,
        links={202: JOB_LINKS, 200: JOB_LINKS},
        **fields,
    )


ROUTES = Routes(tag="jobs")


_BY_PATH = (
    "The scope depends on the method and the path: `calls:write`, unless the guide's table of keys names"
    " another one, such as `directory:read` for people."
)


def _declare(kind: Kind) -> None:
    """Declare the route of a public kind; its summary is the first sentence of the contract."""
    by_path = kind.contract is ApiCall

    async def handle(call: HttpCall) -> web.StreamResponse:
        status = await send(call, kind.contract)
        return await waited(call, status, pending=202)

    makes_job(
        ROUTES,
        f"POST {kind.path or f'/v1/{kind.name}s'}",
        operation=kind.operation or "create" + "".join(map(str.capitalize, kind.name.split("-"))),
        summary=(kind.contract.__doc__ or kind.name).partition("\n")[0].removesuffix("."),
        scope="" if by_path else kind.scope,
        description=_BY_PATH if by_path else "",
        body=Body(model=kind.contract),
        problems=frozenset({403, 409, 422, 429, 503}),
    )(handle)


for _kind in KINDS.values():
    if _kind.is_public:
        _declare(_kind)
