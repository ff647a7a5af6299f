"""The walk of a request: key → scope → rate → query → body → once → handler → answer."""

import re
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from dingrelay_producers import errors
from dingrelay_producers.cells.answers import reason
from dingrelay_tasks.contract import ContractError, sentence
from dingrelay_workers.http import authentication, idempotency, problems
from dingrelay_workers.http.body_reader import read_json
from dingrelay_workers.http.context import CONTEXT
from dingrelay_workers.http.problems import FieldError, Problem
from dingrelay_workers.http.routes import CALLER, ApiCall, Body, Route


def handler_of(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The route as aiohttp wants it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        call = ApiCall(request, request.app[CONTEXT])
        with _as_problems(call):
            await _admit(route, call)
            if route.query:
                call.query = _query(route.query, request)
            if route.body is None or route.body.streamed:
                return await _carry_out(route, call)
            within = call.context.settings.gateway_body_timeout
            if route.body.reader is None:
                call.body = await _body(route.body, request, within)
                return await _carry_out(route, call)
            async with route.body.reader(request, within) as call.upload:
                call.body = call.upload.fields
                # The key may have been revoked, or have expired, while the files came.
                await authentication.caller(request, call.context)
                return await _carry_out(route, call)

    return handle


async def _carry_out(route: Route, call: ApiCall) -> web.StreamResponse:
    if route.cell and call.context.cells:
        call.context = await route.cell(call)
    if not route.idempotent:
        return await route.handler(call)

    async def handle() -> web.StreamResponse:
        with _as_problems(call):
            return await route.handler(call)

    return await idempotency.once(route, call, handle)


@contextmanager
def _as_problems(call: ApiCall) -> Generator[None]:
    """Around what may raise the client's errors."""
    try:
        yield
    except ContractError as error:
        raise problems.invalid(error, call.body) from None
    except errors.DingrelayError as error:
        raise problem_of(_of_cell(error, call.context.settings.cell)) from error


async def _admit(route: Route, call: ApiCall) -> None:
    """Require a key with permission for the route, and enforce its rate limit."""
    if route.negotiates and not _acceptable(route, call.request.headers.get("Accept", "")):
        given = sorted({answer.media_type for answer in route.answers.values() if answer.model})
        raise Problem(problems.NOT_ACCEPTABLE, f"there is only {' and '.join(given)}")
    if route.scope is None:
        return
    key = call.caller = await authentication.caller(call.request, call.context)
    call.request[CALLER] = f"{key.id} {key.name}"
    if route.scope and not key.permits(route.scope):
        raise Problem(problems.FORBIDDEN, f"this needs the scope {route.scope}")
    if (wait := await call.context.throttle(key)) is not None:
        raise authentication.too_many(wait)


def _acceptable(route: Route, accept: str) -> bool:
    """Whether the caller takes what the route gives. A problem comes as one in any case."""
    if not accept or accept == "*/*":
        return True
    given = {answer.media_type for answer in route.answers.values() if answer.model is not None}
    for choice in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in choice.split(";"))
        if any(_NEVER.fullmatch(parameter) for parameter in parameters):
            continue
        kind = media_type.partition("/")[0]
        if media_type == "*/*" or not given or media_type in given:
            return True
        if media_type == f"{kind}/*" and any(each.startswith(f"{kind}/") for each in given):
            return True
    return False


_NEVER = re.compile(r"q=0(?:\.0{0,3})?")


def _query(model: type[BaseModel], request: web.Request) -> BaseModel:
    """The query's parameters, each of them known and given once."""
    if not request.rel_url.raw_query_string and (defaults := _defaults(model)):
        return defaults
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in model.model_fields:
            detail = "no such parameter"
            raise Problem(problems.INVALID, detail, errors=[_at(name, detail)])
        if name in given:
            detail = "is given twice"
            raise Problem(problems.INVALID, detail, errors=[_at(name, detail)])
        given[name] = value
    try:
        return model.model_validate_strings(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        detail = sentence(first)
        raise Problem(problems.INVALID, detail, errors=[_at(name, detail)]) from None


@cache
def _defaults(model: type[BaseModel]) -> BaseModel | None:
    """What a request without a query asks for, which no handler changes; None if it must ask."""
    try:
        return model()
    except ValidationError:
        return None


def _at(name: str, detail: str) -> FieldError:
    return FieldError(pointer=f"?{name:.60}".encode("ascii", "replace").decode(), detail=detail)


async def _body(body: Body, request: web.Request, within: float) -> Any:
    assert body.limit is not None
    if not body.required and not request.can_read_body:
        return {}
    found = await read_json(request, limit=body.limit, within=within)
    if not isinstance(found, dict):
        raise Problem.at(problems.INVALID, "", "the body must be a JSON object")
    return found  # pyright: ignore[reportUnknownVariableType]


def _of_cell(error: errors.DingrelayError, cell: str) -> errors.DingrelayError:
    """The same error, with the name of the cell that is away."""
    if not cell or not isinstance(error, errors.ServiceUnavailable):
        return error
    return errors.CellUnavailable({cell: reason(error)})


def problem_of(error: errors.DingrelayError) -> Problem:
    """What the client raises, as a problem; its message names nothing that the caller may not see."""
    match error:
        case errors.JobNotFound():
            return Problem(problems.NOT_FOUND, "no such job: a wrong id, or its record has expired")
        case errors.ApprovalNotFound():
            return Problem(problems.NOT_FOUND, "no such approval is followed")
        case errors.CampaignNotFound():
            return Problem(problems.NOT_FOUND, "no such campaign")
        case errors.KeyNotFound():
            return Problem(problems.NOT_FOUND, "no such key")
        case errors.EndpointNotFound():
            return Problem(problems.NOT_FOUND, "no such webhook endpoint")
        case errors.CampaignConflict() | errors.KeyConflict() | errors.EndpointConflict():
            return Problem(problems.CONFLICT, str(error))
        case errors.IdempotencyConflict():
            return Problem(problems.CONFLICT, str(error))
        case errors.CannotResolve():
            return Problem.at(problems.INVALID, "", str(error))
        # A record of a newer release, whose gateways can read and change it.
        case errors.ServiceUnavailable() | errors.NotInstalled() | errors.UnreadableRecord():
            return problems.unavailable(str(error))
        case _:
            return Problem(problems.INTERNAL, f"{type(error).__name__}, which is a bug")
