"""The pages of DingTalk's limits, and of the workers that keep them."""

from aiohttp import web

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog import workers as fleet
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.sentences import outage
from dingrelay_workers.console.visit import Visit
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.overview import FleetLimits
from dingrelay_workers.limiter.rules import in_words


@at("/limits", scope="limits:read", menu=("operation", 40, en("Limits")))
async def limits(visit: Visit) -> web.Response:
    """How full DingTalk's limits are."""
    async with asking():
        fleet_limits = await overview.read(visit.context.redis, visit.context.settings)
    fleet_limits = seen_limits(fleet_limits, visit)
    return visit.page(
        "limits.html",
        limits=fleet_limits,
        in_words=in_words,
        robots=robots_of(visit),
        outages=[outage(entry) for entry in fleet_limits.outages],
        months=fleet_limits.quota,
        now=clock.now(),
    )


def robots_of(visit: Visit) -> dict[str, str]:
    """API of a robot's own limit → its name, of those whose webhooks this process has."""
    robots = visit.context.settings.robots
    return {robot.rule: name for name, robot in robots.items() if robot.token}


def seen_limits(fleet_limits: FleetLimits, visit: Visit) -> FleetLimits:
    """Limits of the apps that the person may see, and those that all apps share."""
    grant, apps = visit.grant, visit.context.settings.apps
    if ANY in grant.apps:
        return fleet_limits

    def seen(scope: str) -> bool:
        kind, _, name = scope.partition(":")
        return kind == "egress" or grant.permits_app(name)

    months = {app.organisation for name, app in apps.items() if grant.permits_app(name)}
    return fleet_limits.model_copy(
        update={
            "buckets": [bucket for bucket in fleet_limits.buckets if seen(bucket.scope)],
            "outages": [entry for entry in fleet_limits.outages if seen(entry.scope)],
            "quota": [month for month in fleet_limits.quota if month.organisation in months],
        }
    )


@at("/workers", scope="limits:read", menu=("operation", 60, en("Workers")))
async def workers(visit: Visit) -> web.Response:
    """List the workers."""
    async with asking():
        worker_list = await fleet.read(visit.context.redis)
    return visit.page("workers.html", found=worker_list)
