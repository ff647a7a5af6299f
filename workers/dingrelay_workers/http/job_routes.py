"""``POST /v1/messages`` and its kin: one job a request."""

from collections.abc import Mapping
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from dingrelay_producers.client.sending import Sending
from dingrelay_producers.client.verbs import Steps
from dingrelay_producers.errors import JobNotFound, ServiceUnavailable
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.kinds import KINDS, Kind
from dingrelay_workers.http.idempotency import REPLAYED
from dingrelay_workers.http.paging import Query
from dingrelay_workers.http.routes import Body, Declare, HttpCall, RouteAnswer, Routes, links

_LOCATION = {"Location": "The URL of the job."}
NO_WORKER = '199 dingrelay "no worker has been seen yet: the names in the request are unchecked"'
"""Header ``Warning`` of a job that was accepted while no worker had ever published what it serves."""


class WaitQuery(Query):
    """The query of a route that can wait for a job's end."""

    wait: Annotated[int, Field(ge=1, le=60)] | None = None
    """Seconds to wait for the job's end."""


def job_response(
    call: HttpCall, status: JobStatus, *, code: int, located: bool = True
) -> web.Response:
    """A job as an answer."""
    headers = {"Content-Type": "application/json"}
    if located:
        headers["Location"] = location(status.id)
    # A record may hold what UTF-8 can't spell, from a client without our package.
    body = status.model_dump_json(by_alias=True, context=call.serialization)
    return web.Response(status=code, body=body.encode("utf-8", "backslashreplace"), headers=headers)


def location(job_id: str) -> str:
    """The path of a job."""
    return f"/v1/jobs/{job_id}"


async def waited(call: HttpCall, job_id: str, *, pending: int) -> web.Response:
    """A job as an answer, read once it has ended, the query's `wait` is over or the gateway stops."""
    seconds = call.query.wait
    if seconds:
        await call.context.ends.wait(job_id, seconds, until_stop=True)
    status = await call.context.records.status(job_id)
    return job_response(call, status, code=200 if seconds and status.state.ended else pending)


def job_of(contract: type[Contract], fields: Mapping[str, Any], sender: str) -> Contract:
    """The job of a body. `sender`: of one that names none.

    Raises:
        ContractError: the body is not what the contract says.
    """
    if fields.get("sender") in (None, ""):
        fields = {**fields, "sender": sender}
    return contract.parse(fields, strict=True)


async def made(call: HttpCall, steps: Steps[JobStatus]) -> web.Response:
    """The answer to a request whose body makes a job, once it is accepted."""
    response = job_response(call, await call.context.steps.carry_out(steps), code=202)
    if not call.context.records.served.any_worker:
        response.headers["Warning"] = NO_WORKER
    return response


async def _finish(call: HttpCall, response: web.Response) -> web.Response:
    """The job of a request that waits for its end, or repeats an earlier one, as it stands now."""
    if not (call.query.wait or REPLAYED in response.headers):
        return response
    job_id = response.headers["Location"].removeprefix(location(""))
    try:
        answer = await waited(call, job_id, pending=202)
    except (JobNotFound, ServiceUnavailable):  # discarded or erased since, or accepted: what it was
        return response
    for name in (REPLAYED, "Warning"):
        if name in response.headers:
            answer.headers[name] = response.headers[name]
    return answer


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
        finish=_finish,
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
        job = job_of(kind.contract, call.body, call.context.sender_of(call.key))
        return await made(call, Sending(call.context.settings).send(job))

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
