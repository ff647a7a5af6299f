"""The walk of a request: key → scope → rate → query → body → once → handler → answer."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from dingrelay_producers import errors
from dingrelay_producers.settings import DEFAULT_APP, SettingsError
from dingrelay_producers.store.served_names import app_name
from dingrelay_tasks.contract import Contract, ContractError, sentence
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import authentication, idempotency, problems, routes
from dingrelay_workers.http.body_reader import read_json
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import CONTEXT, Body, HttpCall, Route


def handler_of(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The route as aiohttp wants it."""
    names_app = _names_app(route)

    async def handle(request: web.Request) -> web.StreamResponse:
        call = HttpCall(request, request.app[CONTEXT])
        try:
            await _admit(route, call)
            if route.query:
                call.query = _query(route.query, request)
            if route.body is None or route.body.streamed:
                return await _carry_out(route, call)
            within = routes.BODY_SECONDS
            if route.body.reader is None:
                call.body = await _body(route.body, request, within)
                if names_app:
                    await _check_app(route, call)
                return await _carry_out(route, call)
            async with route.body.reader(request, within) as call.upload:
                call.body = call.upload.fields
                # The key may have been revoked, or have expired, while the files came.
                await authentication.caller(request, call.context)
                if names_app:
                    await _check_app(route, call)
                return await _carry_out(route, call)
        except REFUSALS as error:
            raise _problem(error, call) from error

    return handle


async def _carry_out(route: Route, call: HttpCall) -> web.StreamResponse:
    if not route.idempotent:
        return _response(route, call, await route.handler(call))

    async def handle() -> web.StreamResponse:
        try:
            return _response(route, call, await route.handler(call))
        except REFUSALS as error:
            raise _problem(error, call) from error

    response = await idempotency.once(route, call, handle)
    if route.finish is not None and isinstance(response, web.Response):
        return await route.finish(call, response)
    return response


def _response(
    route: Route, call: HttpCall, result: web.StreamResponse | BaseModel | None
) -> web.StreamResponse:
    """Convert a handler's result to a response."""
    if isinstance(result, web.StreamResponse):
        return result
    status = call.status or next(iter(route.answers))
    if result is None:
        return web.Response(status=status, headers=call.headers)
    document = result.model_dump(mode="json", context=call.serialization)
    return problems.json_response(document, status=status, headers=call.headers)


def _names_app(route: Route) -> bool:
    """Whether the body of a route may name an app; not those of jobs: acceptance checks theirs."""
    model = route.body.model if route.body else None
    return (
        isinstance(model, type) and "app" in model.model_fields and not issubclass(model, Contract)
    )


async def _check_app(route: Route, call: HttpCall) -> None:
    """Refuse an app that no worker serves, which a body names, or its model by default.

    Raises:
        ContractError: names the field.
    """
    fields = call.body if isinstance(call.body, dict) else {}  # a part of a form may be any JSON
    # A change of what is there names no app, unless it gets another one.
    if route.method == "PATCH" and "app" not in fields:
        return
    model = route.body.model if route.body else None
    assert isinstance(model, type)
    app = fields.get("app") or model.model_fields["app"].default
    app = app if isinstance(app, str) else DEFAULT_APP
    if call.key.permits_app(app):
        names = [("app", app_name(app))]
        (await call.context.records.read_served(names)).check(names, call.key.sees_name)


REFUSALS = ContractError, SettingsError, errors.DingrelayError
"""Errors that a handler may raise besides a `Problem`."""


def _problem(error: Exception, call: HttpCall) -> Problem:
    match error:
        case ContractError():
            return problems.invalid(error, call.body)
        case errors.DingrelayError():
            return problem_of(error, at="/" if call.query is None or call.body else "?")
        case _:  # a key of theirs is missing in the settings, such as that of secrets
            return problems.unavailable(str(error))


async def _admit(route: Route, call: HttpCall) -> None:
    """Require a key with permission for the route, and enforce its rate limit."""
    if route.scope is None:
        return
    key = call.caller = await authentication.caller(call.request, call.context)
    authentication.act_as(key, call.request)
    if route.scope and not key.permits(route.scope):
        raise Problem(problems.FORBIDDEN, en("this needs the scope {}", route.scope))
    if (wait := await call.context.throttle(key)) is not None:
        raise authentication.too_many(wait)


def _query(model: type[BaseModel], request: web.Request) -> BaseModel:
    """The query's parameters, each of them known and given once."""
    if not request.rel_url.raw_query_string and (defaults := _defaults(model)):
        return defaults
    parameters: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in model.model_fields:
            raise _parameter_problem(name, en("no such parameter"))
        if name in parameters:
            raise _parameter_problem(name, en("is given twice"))
        parameters[name] = value
    try:
        return model.model_validate_strings(parameters)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name = str(problem["loc"][0]) if problem["loc"] else ""
        raise _parameter_problem(name, sentence(problem)) from None


@cache
def _defaults(model: type[BaseModel]) -> BaseModel | None:
    """The query of a request without parameters, which no handler changes; None if some are required."""
    try:
        return model()
    except ValidationError:
        return None


def _parameter_problem(name: str, detail: str) -> Problem:
    pointer = f"?{name:.60}".encode("ascii", "replace").decode()
    return Problem.at(problems.INVALID, pointer, detail)


async def _body(body: Body, request: web.Request, within: float) -> Any:
    assert body.limit is not None
    if not body.required and not request.can_read_body:
        return {}
    document = await read_json(request, limit=body.limit, within=within)
    if not isinstance(document, dict):
        raise Problem.at(problems.INVALID, "", "the body must be a JSON object")
    return document  # pyright: ignore[reportUnknownVariableType]


def problem_of(error: errors.DingrelayError, *, at: str = "/") -> Problem:
    """Map a client error to a problem; its message names nothing that the caller may not see.

    Args:
        error: of the client.
        at: before a field's name: ``/`` in a body, ``?`` in a query.
    """
    match error:
        case errors.ObjectNotFound():
            return Problem(problems.NOT_FOUND, error.withheld)
        case errors.IdempotencyConflict():
            return problems.key_conflict()
        case errors.Conflict():
            return Problem(problems.CONFLICT, str(error))
        case errors.NotPermitted():
            if not error.field:
                return Problem(problems.FORBIDDEN, str(error))
            return Problem.at(problems.FORBIDDEN, f"{at}{error.field}", str(error))
        case errors.QueueFull():
            return problems.queue_full(str(error))
        case errors.CannotResolve():
            return Problem.at(problems.INVALID, "", str(error))
        # A record of a newer release, whose gateways can read and change it.
        case errors.ServiceUnavailable() | errors.NotInstalled() | errors.UnreadableRecord():
            return problems.unavailable(str(error))
        case _:
            return Problem(problems.INTERNAL, en("{}, which is a bug", type(error).__name__))
