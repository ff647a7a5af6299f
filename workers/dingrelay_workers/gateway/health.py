"""``/healthz`` and ``/readyz``, for load balancers and orchestrators, and ``/v1/limits``."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from aiohttp import web
from prometheus_client import Gauge
from pydantic import BaseModel
from structlog.stdlib import get_logger

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks.sentence import en
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http import problems
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.problems import FieldError, Problem
from dingrelay_workers.http.routes import GatewayContext, HttpCall, RouteAnswer, Routes
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.overview import FleetLimits

CHECK_SECONDS = 1.8
"""A server that takes longer to answer counts as away."""
EVERY = 10.0
"""Seconds between two looks: as often as Prometheus asks."""

Check = Callable[[], Awaitable[None]]

log = get_logger("dingrelay.gateway.servers")


async def problem_of(check: Awaitable[None]) -> str:
    """The error of a server; empty for none."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except ServiceUnavailable as error:
        return str(error)
    except TimeoutError:
        return en("does not answer")
    return ""


async def _answer(check: Check) -> str:
    try:
        return await problem_of(check())
    except Exception as error:  # noqa: BLE001 - the watch goes on, and reports a server that can't be reached
        return type(error).__name__


class ServerWatch:
    """Looks at servers until it is cancelled.

    Args:
        away: where it is kept, by the labels of each server.
        checks: labels → asks the server; raises `ServiceUnavailable` if it is away.
    """

    def __init__(self, away: Gauge, checks: Mapping[tuple[str, str], Check]) -> None:
        self._away = away
        self._checks = checks
        self._reasons = dict.fromkeys(checks, "")
        for labels in checks:
            away.labels(*labels).set(0)

    async def run(self) -> None:
        """Look, and look again."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Ask all servers at the same time, and keep which are away; the log has what changes."""
        answers = await asyncio.gather(*map(_answer, self._checks.values()))
        for place, reason in zip(self._checks, answers, strict=True):
            server = " ".join(filter(None, place))
            self._away.labels(*place).set(bool(reason))
            before, self._reasons[place] = self._reasons[place], reason
            if reason and not before:
                log.warning("server_away", server=server, reason=reason)
            elif before and not reason:
                log.info("server_back", server=server)


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
    found = await asyncio.gather(*map(_away, context.each))
    # As long as the servers of some apps are there, these need a gateway.
    away = min(found, key=len)
    if [error.pointer for error in away] == ["/database"] and context.service(KeyService).any_known:
        return web.json_response({**dict(Health()), "database": "away"})
    if away:
        names = " and ".join(error.pointer[1:] for error in away)
        refusal = problems.unavailable(en("away: {}", names))
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


@ROUTES("GET /v1/limits", FleetLimits, scope="limits:read")
async def get_limits(call: HttpCall) -> FleetLimits:
    """How full the limits are.

    Rates, pauses, outages, and the calls of the month, of the whole fleet, as far as they concern the key's apps.
    """
    context = call.context
    async with asking():
        found = await overview.read(context.redis, context.settings)
    apps = context.settings.apps
    organisations = {app.organisation for name, app in apps.items() if call.key.permits_app(name)}
    return FleetLimits(
        rules=found.rules,
        buckets=[each for each in found.buckets if _visible(call.key, each.scope)],
        outages=[each for each in found.outages if _visible(call.key, each.scope)],
        quota=[
            each
            for each in found.quota
            if ANY in call.key.apps or each.organisation in organisations
        ],
    )


def _visible(key: ApiKey, scope: str) -> bool:
    """Whether a key sees what has this scope: ``app:NAME``, ``hold:NAME:…``, or what all apps share."""
    kind, _, rest = scope.partition(":")
    return kind not in {"app", "hold"} or key.permits_app(rest.partition(":")[0])
