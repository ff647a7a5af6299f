"""``/healthz`` and ``/readyz``: for load balancers and orchestrators."""

import asyncio
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from dingrelay_workers.gateway.server_watch import problem_of
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http import problems
from dingrelay_workers.http.context import GatewayContext
from dingrelay_workers.http.problems import FieldError, Problem
from dingrelay_workers.http.routes import Answer, ApiCall, Route
from dingrelay_workers.keys.known_keys import KnownKeys


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Health):
    """Jobs would be accepted."""

    database: Literal["away"] | None = None
    """Away: only keys that were used lately are let in; absent while it is there."""

    cells_away: list[str] | None = None
    """Cells that take none now; absent where there is none."""


async def healthz(call: ApiCall) -> web.StreamResponse:
    """Whether the process answers; it asks no other."""
    return web.json_response(Health().model_dump())


async def readyz(call: ApiCall) -> web.StreamResponse:
    """Whether jobs would be accepted now."""
    context = call.context
    if context.stopping.is_set():
        raise problems.unavailable("this gateway is stopping")
    if context.cells:
        checks = {name: _check_cell(cell) for name, cell in context.cells.items()}
    else:
        checks = {"redis": context.records.ping(), "database": context.service(Services).check()}
    answers = await asyncio.gather(*(problem_of(check) for check in checks.values()))
    away = [
        FieldError(pointer=f"/{name}", detail=detail)
        for name, detail in zip(checks, answers, strict=True)
        if detail
    ]
    document: dict[str, Any] = dict(Health())
    if (
        not context.cells
        and [error.pointer for error in away] == ["/database"]
        and context.service(KnownKeys).any_known
    ):
        return web.json_response({**document, "database": "away"})
    # As long as one cell is there, its apps need a gateway.
    if away and len(away) >= min(len(checks), len(context.cells) or 1):
        names = " and ".join(error.pointer[1:] for error in away)
        refusal = problems.unavailable(f"away: {names}")
        raise Problem(problems.UNAVAILABLE, refusal.detail, errors=away, headers=refusal.headers)
    if away:
        document["cells_away"] = [error.pointer[1:] for error in away]
    return web.json_response(document)


async def _check_cell(context: GatewayContext) -> None:
    await context.records.ping()
    await context.service(Services).check()


ROUTES = (
    Route(
        method="GET",
        path="/healthz",
        handler=healthz,
        operation="getHealth",
        summary="Whether the process answers",
        tag="operation",
        answers={200: Answer(description="It does.", model=Health)},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=readyz,
        operation="getReadiness",
        summary="Whether Redis and the database answer",
        description=(
            "With cells: those of one of them at least. Without its database a gateway is ready as long as it "
            "knows keys; one that is stopping is not."
        ),
        tag="operation",
        answers={200: Answer(description="They do.", model=Readiness)},
        problems=frozenset({503}),
    ),
)
