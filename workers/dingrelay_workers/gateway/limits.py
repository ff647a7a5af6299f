"""``GET /v1/limits``: what ``dingrelay limits`` shows."""

from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.routes import HttpCall, Routes
from dingrelay_workers.limiter.overview import FleetLimits

ROUTES = Routes(tag="operation")


@ROUTES("GET /v1/limits", FleetLimits, scope="limits:read")
async def get_limits(call: HttpCall) -> FleetLimits:
    """How full the limits are.

    Rates, pauses, outages, and the calls of the month, of the whole fleet, as far as they concern the key's apps.
    """
    found = await call.context.service(Services).limits()
    apps = call.context.settings.apps
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
