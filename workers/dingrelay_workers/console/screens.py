"""The pages of the console. Each asks a noun's service, and shows what it answers."""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from aiohttp import web

from dingrelay_producers.client.filters import ApprovalFilter, CampaignFilter, JobFilter
from dingrelay_producers.client.history_documents import JobDetails
from dingrelay_producers.client.job_details import details_of
from dingrelay_producers.client.job_list import JobList, Position
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import CampaignNotFound, EndpointNotFound
from dingrelay_producers.language import tr
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.backlog import estimate
from dingrelay_workers.backlog.shown import MOST as MOST_COUNTED
from dingrelay_workers.console.app import BadFilter, NotHere, Screen, Visit
from dingrelay_workers.console.now import Standing, forecast, outage
from dingrelay_workers.console.words import (
    OF_APPROVAL,
    OF_CAMPAIGN,
    OF_ENDPOINT,
    OUTCOMES,
    STATES,
    meaning,
)
from dingrelay_workers.http import paging
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.rules import Rules

SCREENS: dict[str, Screen] = {}
"""Path → page."""
PAGE = 50
"""Rows of a list."""
MOST_DEAD = 2_000
"""Failed jobs that are grouped, the latest ones."""
QUEUES = sorted(
    {f"dingrelay.{lane}" for lane in estimate.LANES}
    | {kind.queue for kind in KINDS.values() if kind.queue}
)
"""That a worker must serve for every kind of job to be carried out."""
PATIENCE = 2.0
"""Seconds for an answer of the history."""

_FIELD = re.compile(r"(\w+):(\S+)")
_AGE = re.compile(r"(\d{1,4})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def _at(path: str) -> Callable[[Screen], Screen]:
    def declare(screen: Screen) -> Screen:
        SCREENS[path] = screen
        return screen

    return declare


@_at("/")
async def now(visit: Visit) -> web.Response:
    """How things stand."""
    context = visit.context
    rules = Rules.from_settings(context.settings.limits, context.settings.egress)
    async with asking():
        limits = await overview.read(context.redis, context.settings)
        # As many as for the metrics: each tab that shows this page asks every few seconds.
        tally, lanes = await estimate.read(context.redis, rules, most=MOST_COUNTED)
        dead = await context.redis.zcard(keys.DEAD)
    return visit.page(
        "now.html",
        sentences=Standing(limits, tally, lanes, dead).sentences(),
        lanes=lanes,
        now=tally.now,
        months=forecast(limits.quota, tally.now),
        dead=dead,
    )


@_at("/people")
async def people(visit: Visit) -> web.Response:
    """Find a person by name, userid or address."""
    text = visit.query("q")[:100]
    found = await visit.context.services.history.people(text, app=None, limit=PAGE) if text else []
    if len(found) == 1:
        return visit.redirect(f"/people/{quote(found[0].userid, safe='')}")
    return visit.page("people.html", text=text, people=found)


@_at("/people/{user}")
async def person(visit: Visit) -> web.Response:
    """Every message to a person."""
    user = visit.request.match_info["user"]
    found = await visit.context.services.history.person(user, app=None, limit=200)
    messages = [(each, meaning(OUTCOMES, each.outcome)) for each in found.messages]
    return visit.page("person.html", user=user, known_as=found.known_as, messages=messages)


@_at("/jobs")
async def jobs(visit: Visit) -> web.Response:
    """The latest jobs that fit a filter in the URL."""
    text = visit.query("q")[:300]
    chosen, code = _job_filter(text)
    after = _position(visit.query("after"))
    listing = _job_list(visit)
    if chosen.state in {State.DEAD, State.UNKNOWN}:
        found, more = await listing.find(chosen, PAGE), None
    else:
        found, more = await listing.page(chosen, PAGE, after)
    shown = [(job, meaning(STATES, job.state)) for job in found if not code or _code(job) == code]
    cursor = paging.encode(*more) if more else ""
    return visit.page("jobs.html", text=text, jobs=shown, cursor=cursor, states=STATES)


@_at("/jobs/{id}")
async def job(visit: Visit) -> web.Response:
    """One job: its life, why it waits, its people."""
    found = await _details(visit, visit.request.match_info["id"])
    people: dict[str, list[str]] = {}
    for user, outcome in found.recipients.items():
        people.setdefault(outcome, []).append(user)
    by_outcome = [(meaning(OUTCOMES, outcome), users) for outcome, users in people.items()]
    result = {name: value for name, value in (found.status.result or {}).items() if value != []}
    return visit.page(
        "job.html",
        job=found.status,
        state=meaning(STATES, found.status.state),
        key=found.key,
        people=by_outcome,
        result=result,
    )


@_at("/dead")
async def dead(visit: Visit) -> web.Response:
    """Jobs that have failed for good, by the code of their error."""
    found = await _job_list(visit).find(JobFilter(state=State.DEAD), MOST_DEAD)
    counts = Counter(map(_code, found))
    latest = {_code(job): job for job in reversed(found)}
    groups = [(code, count, latest[code]) for code, count in counts.most_common()]
    return visit.page("dead.html", groups=groups, more=len(found) == MOST_DEAD, most=MOST_DEAD)


@_at("/campaigns")
async def campaigns(visit: Visit) -> web.Response:
    """The latest broadcasts."""
    after = visit.query("after")
    place = _cursor(after, datetime, str) if after else None
    found = await visit.context.services.campaigns.list(
        CampaignFilter(), limit=PAGE + 1, after=(place[0], place[1]) if place else None
    )
    last = found[PAGE - 1] if len(found) > PAGE else None
    cursor = paging.encode(last.created_at, last.id) if last else ""
    shown = [(each, meaning(OF_CAMPAIGN, each.state)) for each in found[:PAGE]]
    return visit.page("campaigns.html", campaigns=shown, cursor=cursor)


@_at("/campaigns/{id}")
async def campaign(visit: Visit) -> web.Response:
    """One broadcast: how far it is, and who did not get it, by reason."""
    id_ = visit.request.match_info["id"]
    try:
        status = await visit.context.services.campaigns.status(id_)
        report = await visit.context.services.campaigns.report(id_)
    except CampaignNotFound:
        raise NotHere from None
    outcomes = [
        (meaning(OUTCOMES, outcome), people)
        for outcome, people in report.outcomes.items()
        if people
    ]
    reasons = [(meaning(OUTCOMES, each.outcome), each) for each in report.reasons[:PAGE]]
    return visit.page(
        "campaign.html",
        campaign=status,
        state=meaning(OF_CAMPAIGN, status.state),
        report=report,
        outcomes=outcomes,
        reasons=reasons,
    )


@_at("/limits")
async def limits(visit: Visit) -> web.Response:
    """How full DingTalk's limits are."""
    async with asking():
        found = await overview.read(visit.context.redis, visit.context.settings)
    at = datetime.now(UTC)
    return visit.page(
        "limits.html",
        limits=found,
        outages=[outage(each) for each in found.outages],
        months=forecast(found.quota, at),
        now=at,
    )


@_at("/approvals")
async def approvals(visit: Visit) -> web.Response:
    """The latest approvals, and who has to decide."""
    cursor = visit.query("after")
    if cursor:
        _cursor(cursor, datetime, str, str)
    found = await visit.context.services.approvals.list(
        ApprovalFilter(cursor=cursor or None), limit=PAGE
    )
    shown = [(each, meaning(OF_APPROVAL, each.state)) for each in found.approvals]
    return visit.page("approvals.html", approvals=shown, cursor=found.next or "")


@_at("/webhooks")
async def webhooks(visit: Visit) -> web.Response:
    """Where notices go."""
    found = await visit.context.services.webhooks.list()
    shown = [(each, meaning(OF_ENDPOINT, each.state)) for each in found]
    return visit.page("webhooks.html", endpoints=shown)


@_at("/webhooks/{id}")
async def webhook(visit: Visit) -> web.Response:
    """One endpoint, and its health."""
    try:
        found = await visit.context.services.webhooks.get(visit.request.match_info["id"])
    except EndpointNotFound:
        raise NotHere from None
    return visit.page("webhook.html", endpoint=found, state=meaning(OF_ENDPOINT, found.state))


@_at("/workers")
async def workers(visit: Visit) -> web.Response:
    """Who carries jobs out."""
    redis = visit.context.redis
    async with asking():
        signs: Any = await redis.hkeys(keys.PRESENCE)
        names = sorted(name.decode(errors="replace") for name in signs)
        alive: Any = await redis.mget(list(map(keys.alive, QUEUES)))
    lanes = [
        (name.removeprefix("dingrelay."), sign is not None)
        for name, sign in zip(QUEUES, alive, strict=True)
    ]
    return visit.page("workers.html", workers=names, lanes=lanes)


def _job_list(visit: Visit) -> JobList:
    redis = visit.context.redis

    async def use(work: Callable[[Any], Awaitable[Any]]) -> Any:
        async with asking():
            return await work(redis)

    return JobList(use, visit.context.services.history, patience=PATIENCE, visible=_asked_for)


def _asked_for(job: JobStatus) -> bool:
    """Whether an application asked for it: parts of a sync or of a broadcast are shown as a whole elsewhere."""
    kind = KINDS.get(job.kind)
    return kind is None or kind.is_reported


async def _details(visit: Visit, job_id: str) -> JobDetails:
    async with asking():
        record: Any = await visit.context.redis.hgetall(keys.job(job_id))
    found = details_of(job_id, record) or await visit.context.services.history.details(job_id)
    if found is None:
        raise NotHere
    return found


def _job_filter(text: str) -> tuple[JobFilter, str]:
    """A filter such as ``state:dead app:hr to:u7 code:60011 since:2d``, and the code in it."""
    given = dict(_FIELD.findall(text))
    if rest := _FIELD.sub("", text).strip():
        raise BadFilter(tr("“{text}” is no filter: write state:dead, app:hr, to:u7", text=rest))
    code = given.pop("code", "")
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name not in {"state", "kind", "app", "sender", "lane", "to", "since"}:
            raise BadFilter(tr("there is no filter “{name}”", name=name))
        fields[name] = value
    if "state" in fields:
        if fields["state"] not in list(State):
            raise BadFilter(tr("there is no state “{state}”", state=fields["state"]))
        fields["state"] = State(fields["state"])
    if "since" in fields:
        age = _AGE.fullmatch(fields["since"])
        if age is None:
            raise BadFilter(tr("since: must be such as 30m, 6h or 2d"))
        fields["since"] = datetime.now(UTC) - int(age[1]) * _UNITS[age[2]]
    return JobFilter(**fields), code


def _position(cursor: str) -> Position | None:
    return Position(*_cursor(cursor, int, str)) if cursor else None


def _cursor(cursor: str, *types: type) -> Any:
    try:
        return paging.decode(cursor, *types)
    except ValueError:
        raise BadFilter(tr("this is no page of the list")) from None


def _code(job: JobStatus) -> str:
    return job.error.code if job.error else ""
