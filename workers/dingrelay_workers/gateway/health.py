"""``/healthz`` and ``/readyz``, for load balancers and orchestrators, and ``/v1/limits``."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

from aiohttp import web
from prometheus_client import Gauge
from pydantic import BaseModel
from structlog.stdlib import get_logger

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.readiness import Check, away, problem_of
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import FieldError, Problem
from dingrelay_workers.http.routes import GatewayContext, HttpCall, RouteAnswer, Routes
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.overview import FleetLimits
from dingrelay_workers.store.connections import end_tasks

EVERY = 10.0
"""Seconds between two looks: as often as Prometheus asks."""

log = get_logger("dingrelay.gateway.servers")


class ServerWatch:
    """Looks at servers until it is cancelled.

    Args:
        away: where it is kept, by the server.
        checks: server → asks it; raises `ServiceUnavailable` if it is away.
    """

    def __init__(self, away: Gauge, checks: Mapping[str, Check]) -> None:
        self._away = away
        self._checks = checks
        self._reasons = dict.fromkeys(checks, "")
        for server in checks:
            away.labels(server).set(0)

    async def run(self) -> None:
        """Look, and look again."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Ask all servers at the same time, and keep which are away; the log has what changes."""
        answers = await asyncio.gather(*map(problem_of, self._checks.values()))
        for server, reason in zip(self._checks, answers, strict=True):
            self._away.labels(server).set(bool(reason))
            before, self._reasons[server] = self._reasons[server], reason
            if reason and not before:
                log.warning("server_away", server=server, reason=reason)
            elif before and not reason:
                log.info("server_back", server=server)


@asynccontextmanager
async def watching(context: GatewayContext) -> AsyncGenerator[None]:
    """Watches the servers of a gateway while the block runs."""
    watch = ServerWatch(context.metrics.server_away, servers_of(context))
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        await end_tasks([task])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Health):
    """Jobs would be accepted."""

    database: Literal["away"] | None = None
    """Away: only keys that were used lately are let in; absent while it is there."""


ROUTES = Routes(tag="operation")


@ROUTES(
    "GET /healthz",
    {200: RouteAnswer(description="It does.", model=Health)},
)
async def get_health(call: HttpCall) -> web.StreamResponse:
    """Whether the process answers."""
    return web.json_response(Health().model_dump())


@ROUTES(
    "GET /readyz",
    {200: RouteAnswer(description="They do.", model=Readiness)},
    description=(
        "Without its database a gateway is ready as long as it "
        "knows keys; one that is stopping is not."
    ),
    problems=frozenset({503}),
)
async def get_readiness(call: HttpCall) -> web.StreamResponse:
    """Whether Redis and the database answer."""
    context = call.context
    if context.stopping.is_set():
        raise problems.unavailable("this gateway is stopping")
    missing = await missing_servers(context)
    if [*missing] == ["database"] and context.service(KeyService).any_known:
        return web.json_response({**dict(Health()), "database": "away"})
    if missing:
        errors = [
            FieldError(pointer=f"/{server}", detail=reason) for server, reason in missing.items()
        ]
        refusal = problems.unavailable(en("away: {}", " and ".join(missing)))
        raise Problem(problems.UNAVAILABLE, refusal.detail, errors=errors, headers=refusal.headers)
    return web.json_response(dict(Health()))


async def missing_servers(context: GatewayContext) -> dict[str, str]:
    """The servers that can't be used, and why."""
    return await away(servers_of(context))


def servers_of(context: GatewayContext) -> dict[str, Check]:
    """The servers that a gateway needs, by name."""
    return {"redis": partial(_check_redis, context), "database": context.service(Services).check}


async def _check_redis(context: GatewayContext) -> None:
    """Whether Redis takes writes, and its time is known, by which keys end.

    Raises:
        ServiceUnavailable: it is away.
    """
    await context.records.ping()
    if not clock.CLOCK.is_read:
        async with asking():
            await clock.CLOCK.read(context.redis)


@ROUTES("GET /v1/limits", FleetLimits, scope="limits:read")
async def get_limits(call: HttpCall) -> FleetLimits:
    """How full the limits are.

    Rates, pauses, outages, and the calls of the month, of the whole fleet, as far as they concern the key's apps.
    """
    context = call.context
    async with asking():
        limits = await overview.read(context.redis, context.settings)
    return limits.of_actor(context.settings)
