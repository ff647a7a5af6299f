"""``/healthz``, ``/readyz`` and ``/metrics``: for load balancers, orchestrators and Prometheus."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.gateway import problems
from dingrelay_producers.gateway.backend import metrics
from dingrelay_producers.gateway.http.routes import Answer, ApiCall, Route
from dingrelay_producers.gateway.problems import FieldError, Problem

CHECK_SECONDS = 1.8


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


async def healthz(call: ApiCall) -> web.StreamResponse:
    """Whether the process answers; it asks no other."""
    return web.json_response(Health().model_dump())


async def readyz(call: ApiCall) -> web.StreamResponse:
    """Whether jobs would be accepted now."""
    context = call.context
    checks = {"redis": context.records.ping(), "database": context.backend.check()}
    told = await asyncio.gather(*(_told(check) for check in checks.values()))
    away = [
        FieldError(pointer=f"/{name}", detail=detail)
        for name, detail in zip(checks, told, strict=True)
        if detail
    ]
    if away:
        names = " and ".join(error.pointer[1:] for error in away)
        refusal = problems.unavailable(f"away: {names}")
        raise Problem(problems.UNAVAILABLE, refusal.detail, errors=away, headers=refusal.headers)
    return web.json_response(Health().model_dump())


async def _told(check: Awaitable[None]) -> str:
    """What is wrong; empty if nothing."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except ServiceUnavailable as error:
        return str(error)
    except TimeoutError:
        return "does not answer"
    return ""


async def show_metrics(call: ApiCall) -> web.StreamResponse:
    """The process's metrics in Prometheus's text format."""
    context = call.context
    context.metrics.unpublished.set(context.records.enqueuer.unpublished)
    return web.Response(body=context.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})


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
        tag="operation",
        answers={200: Answer(description="They do.", model=Health)},
        problems=frozenset({503}),
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=show_metrics,
        operation="getMetrics",
        summary="Metrics of this process, for Prometheus",
        tag="operation",
        answers={
            200: Answer(
                description="The metrics.", model={"type": "string"}, media_type="text/plain"
            )
        },
    ),
)
