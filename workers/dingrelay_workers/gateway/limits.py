"""``GET /v1/limits``: what ``dingrelay limits`` shows."""

from aiohttp import web

from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.problems import json_response
from dingrelay_workers.http.routes import HttpCall, Route, RouteAnswer
from dingrelay_workers.limiter.overview import FleetLimits


async def show_limits(call: HttpCall) -> web.StreamResponse:
    """The buckets of the key's apps and those that all apps share, what is out, and the month's calls."""
    found = await call.context.service(Services).limits()
    apps = call.context.settings.apps
    organisations = {app.organisation for name, app in apps.items() if call.key.permits_app(name)}
    visible = FleetLimits(
        rules=found.rules,
        buckets=[each for each in found.buckets if _visible(call.key, each.scope)],
        outages=[each for each in found.outages if _visible(call.key, each.scope)],
        quota=[
            each
            for each in found.quota
            if ANY in call.key.apps or each.organisation in organisations
        ],
    )
    return json_response(visible.model_dump(mode="json"))


def _visible(key: ApiKey, scope: str) -> bool:
    """Whether a key sees what has this scope: ``app:NAME``, ``hold:NAME:…``, or what all apps share."""
    kind, _, rest = scope.partition(":")
    return kind not in {"app", "hold"} or key.permits_app(rest.partition(":")[0])


ROUTES = (
    Route(
        method="GET",
        path="/v1/limits",
        handler=show_limits,
        operation="getLimits",
        summary="How full the limits are",
        description=(
            "Rates, pauses, outages, and the calls of the month, of the whole fleet, as far as they concern the "
            "key's apps."
        ),
        tag="operation",
        scope="limits:read",
        answers={200: RouteAnswer(description="The limits.", model=FleetLimits)},
    ),
)
