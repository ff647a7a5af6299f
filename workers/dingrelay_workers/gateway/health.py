"""``/healthz`` and ``/readyz``: for load balancers and orchestrators."""

import asyncio
from typing import Literal

from aiohttp import web
from pydantic import BaseModel

from dingrelay_workers.gateway.server_watch import problem_of
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http import problems
from dingrelay_workers.http.context import GatewayContext
from dingrelay_workers.http.problems import FieldError, Problem
from dingrelay_workers.http.routes import HttpCall, Route, RouteAnswer
from dingrelay_workers.keys.known_keys import KnownKeys


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Health):
    """Jobs would be accepted."""

    database: Literal["away"] | None = None
    """Away: only keys that were used lately are let in; absent while it is there."""


async def healthz(call: HttpCall) -> web.StreamResponse:
    """Whether the process answers; it asks no other."""
    return web.json_response(Health().model_dump())


async def readyz(call: HttpCall) -> web.StreamResponse:
    """Whether jobs would be accepted now."""
    context = call.context
    if context.stopping.is_set():
        raise problems.unavailable("this gateway is stopping")
    found = await asyncio.gather(*map(_away, context.each))
    # As long as the servers of some apps are there, these need a gateway.
    away = min(found, key=len)
    if [error.pointer for error in away] == ["/database"] and context.service(KnownKeys).any_known:
        return web.json_response({**dict(Health()), "database": "away"})
    if away:
        names = " and ".join(error.pointer[1:] for error in away)
        refusal = problems.unavailable(f"away: {names}")
        raise Problem(problems.UNAVAILABLE, refusal.detail, errors=away, headers=refusal.headers)
    return web.json_response(dict(Health()))


async def _away(context: GatewayContext) -> list[FieldError]:
    checks = {"redis": context.records.ping(), "database": context.service(Services).check()}
    answers = await asyncio.gather(*map(problem_of, checks.values()))
    return [
        FieldError(pointer=f"/{name}", detail=detail)
        for name, detail in zip(checks, answers, strict=True)
        if detail
    ]


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        handler=healthz,
        operation="getHealth",
        summary="Whether the process answers",
        tag="operation",
        answers={200: RouteAnswer(description="It does.", model=Health)},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        operation="getReadiness",
        summary="Whether Redis and the database answer",
        description=(
            "Without its database a gateway is ready as long as it "
            "knows keys; one that is stopping is not."
        ),
        tag="operation",
        answers={200: RouteAnswer(description="They do.", model=Readiness)},
        problems=frozenset({503}),
    ),
)
