"""The pages of DingTalk's limits, and of the workers that keep them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from aiohttp import web

from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.language import tr
from dingrelay_producers.store import clock
from dingrelay_tasks.robot_names import WEBHOOK
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog import workers as fleet
from dingrelay_workers.backlog.console_routes import paused
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.console.sentences import outage
from dingrelay_workers.console.visit import Visit
from dingrelay_workers.history.quarters import Quarter, QuarterService
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.breakers import BreakerState
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.rules import in_words


@at("/limits", scope="limits:read", menu=("operation", 40, en("Limits")))
async def limits(visit: Visit) -> web.Response:
    """How full DingTalk's limits are."""
    async with asking():
        fleet_limits = await overview.read(visit.context.redis, visit.context.settings)
    fleet_limits = fleet_limits.of_actor(visit.context.settings)
    stops = partial(_stops, fleet_limits.outages, clock.now())
    return visit.page(
        "limits.html",
        limits=fleet_limits,
        in_words=in_words,
        api_words=partial(api_words, robots=robots_of(visit)),
        pauses=await paused(visit),
        quarters=await last_day(visit),
        outages=[outage(entry) for entry in fleet_limits.outages],
        months=fleet_limits.quota,
        stops=stops,
    )


def _stops(outages: Sequence[BreakerState], now: datetime, bucket: BucketState) -> Meaning:
    """The reason for which calls of a bucket wait."""
    if bucket.paused_until and bucket.paused_until > now:
        until = spoken(bucket.paused_until, seconds=True)
        return Meaning("bad", en("paused until {}: {}", until, bucket.reason))
    if any(entry.stops(bucket.scope.partition(":")[2], bucket.api) for entry in outages):
        return Meaning("bad", en("an outage"))
    if bucket.waiting:
        return Meaning("wait", en("{:,} jobs wait", bucket.waiting))
    return Meaning("good", en("open"))


async def last_day(visit: Visit) -> Sequence[Quarter]:
    """The fleet's last day, for people who see all apps; none where the database is away."""
    if ANY not in visit.grant.apps:
        return []
    service = visit.service(QuarterService)
    with suppress(ServiceUnavailable):
        return await visit.context.shared.get("quarters", service.last_day)
    return []


def robots_of(visit: Visit) -> dict[str, str]:
    """API of a robot's own limit → its name and its groups, of those whose webhooks this process has."""
    settings, names = visit.context.settings, dict[str, str]()
    for name, robot in settings.robots.items():
        groups = [group for group, pool in settings.groups.items() if name in pool.robots]
        if robot.token and groups:
            names[robot.rule] = tr("{name}, group {groups}", name=name, groups=", ".join(groups))
        elif robot.token:
            names[robot.rule] = name
    return names


def api_words(api: str, robots: Mapping[str, str]) -> str:
    """An API of a limit in words, where it is that of one robot, or none: the limit of all calls."""
    name, _, digest = api.partition("@")
    if api == "*":
        return tr("all calls of this address")
    if name != WEBHOOK or not digest:
        return api
    # One that others name by its token, as at DingTalk's own URLs, has no name here.
    return tr("robot {name}", name=robots.get(api) or tr("{digest}…, unnamed", digest=digest[:6]))


@at("/workers", scope="limits:read", menu=("operation", 60, en("Workers")))
async def workers(visit: Visit) -> web.Response:
    """List the workers."""
    async with asking():
        worker_list = await fleet.read(visit.context.redis)
    return visit.page("workers.html", found=worker_list)
