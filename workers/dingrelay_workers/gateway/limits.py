"""``GET /v1/limits``: what ``dingrelay limits`` shows."""

from aiohttp import web
from pydantic import AwareDatetime, BaseModel

from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.problems import json_response
from dingrelay_workers.http.routes import Answer, ApiCall, Route


class Bucket(BaseModel):
    """The token bucket of one rule."""

    scope: str
    """``app:NAME`` or ``egress:NAME``."""
    api: str
    unit: str
    """What is counted: ``calls`` or ``recipients``."""
    limit: int | None
    """How many in `window` seconds; null where there is no limit, only penalties."""
    window: float
    rate: float
    """At which it refills, a second."""
    ceiling: float | None
    """Beyond which calls were refused; null where that is not known."""
    balance: float
    """Tokens that are there; below zero where coming slots are reserved."""
    throttles: int
    level: int
    paused_until: AwareDatetime | None
    reason: str
    horizon: AwareDatetime | None
    """When the parked jobs are through at the present rate, if no others come."""
    waiting: int
    """Jobs that are parked, in all lanes and of all senders."""


class OutageDocument(BaseModel):
    """An API or a host that is out, or an app that is held."""

    scope: str
    name: str
    reason: str
    opened_at: AwareDatetime
    next_probe: AwareDatetime
    probes: int
    """How many have failed."""


class QuotaDocument(BaseModel):
    """The calls of an organisation's month."""

    organisation: str
    used: int
    limit: int | None


class DifferenceDocument(BaseModel):
    """A limit that not all workers keep alike."""

    api: str
    unit: str
    limits: dict[str, list[str]]
    """Limit, such as ``20/1s``, or empty for none → the workers that keep it."""


class RulesDocument(BaseModel):
    """Whose rules are shown."""

    workers: int
    """How many workers have published theirs; 0: they are those of the gateway's settings."""
    differences: list[DifferenceDocument]


class LimitsDocument(BaseModel):
    """How full the limits are."""

    rules: RulesDocument
    buckets: list[Bucket]
    outages: list[OutageDocument]
    quota: list[QuotaDocument]


async def show_limits(call: ApiCall) -> web.StreamResponse:
    """The buckets of the key's apps and those that all apps share, what is out, and the month's calls."""
    found = await call.context.service(Services).limits()
    apps = call.context.settings.apps
    organisations = {app.organisation for name, app in apps.items() if call.key.permits_app(name)}
    for part in ("buckets", "outages"):
        found[part] = [each for each in found[part] if _visible(call.key, each["scope"])]
    if ANY not in call.key.apps:
        found["quota"] = [each for each in found["quota"] if each["organisation"] in organisations]
    return json_response(found)


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
        answers={200: Answer(description="The limits.", model=LimitsDocument)},
    ),
)
