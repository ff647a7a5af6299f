"""The pages of jobs: the latest that fit a filter, and one of them."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_details import details_of
from dingrelay_producers.client.job_list import JobList, Position
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.language import tr
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.job_filter import LONGEST, job_filter, offers, parse
from dingrelay_workers.console.now import why_it_waits
from dingrelay_workers.console.visit import PAGE, BadFilter, NotHere, Visit, decoded
from dingrelay_workers.console.words import OUTCOMES, STATES, meaning
from dingrelay_workers.history.writer import dingtalk_ids
from dingrelay_workers.http import paging

PATIENCE = 2.0
"""Seconds for an answer of the history."""
SHOWN = 50
"""People of each outcome who are named."""
NAMESAKES = 10
"""People of one name who are listed."""


@at("/jobs", scope="jobs:read")
async def jobs(visit: Visit) -> web.Response:
    """The latest jobs that fit a filter in the URL."""
    text = visit.query("q")[:LONGEST]
    given: dict[str, str] = {}
    try:
        given = parse(text)
        named = given | {"to": await _userid(visit, given["to"])} if "to" in given else given
        chosen = job_filter(named, datetime.now(UTC))
    except BadFilter as error:
        return _list(visit, text, given, problem=str(error), status=400)
    after = _position(visit.query("after"))
    found, more = await visit.context.shared.get(
        ("jobs", repr(chosen), after), lambda: listing(visit, chosen).page(chosen, PAGE, after)
    )
    return _list(visit, text, given, found, paging.encode(*more) if more else "")


def _list(
    visit: Visit,
    text: str,
    given: dict[str, str],
    found: Sequence[JobStatus] = (),
    cursor: str = "",
    **more: Any,
) -> web.Response:
    shown = [(job, meaning(STATES, job.state)) for job in found]
    offered = offers(given, sorted(visit.context.settings.apps))
    return visit.page(
        "jobs.html", text=text, jobs=shown, cursor=cursor, offers=offered, **{"problem": ""} | more
    )


@at("/jobs/{id}", scope="jobs:read")
async def job(visit: Visit) -> web.Response:
    """One job: its life, why it waits, its people."""
    id_ = visit.request.match_info["id"]
    async with asking():
        record: Any = await visit.context.redis.hgetall(keys.job(id_))
    found = details_of(id_, record) or await visit.context.services.history.details(id_)
    if found is None:
        raise NotHere
    people: dict[str, list[str]] = {}
    for user, outcome in found.recipients.items():
        people.setdefault(outcome, []).append(user)
    shown = {user for users in people.values() for user in users[:SHOWN]}
    names = await visit.context.services.history.names(shown, apps=[found.status.app])
    result = {name: value for name, value in (found.status.result or {}).items() if value != []}
    return visit.page(
        "job.html",
        job=found.status,
        state=meaning(STATES, found.status.state),
        why=await why_it_waits(visit.context.redis, found.status, record),
        key=found.key,
        people=[(meaning(OUTCOMES, outcome), users) for outcome, users in people.items()],
        names=names,
        shown=SHOWN,
        ids=result.get("ids") or dingtalk_ids(result),
        result=result,
    )


def listing(visit: Visit, chosen: JobFilter) -> JobList:
    """The jobs that an application asked for, as far as the visitor may see them.

    Those that failed have an index of their own, which goes further back than the newest jobs.
    """
    redis = visit.context.redis

    async def use(work: Callable[[Any], Awaitable[Any]]) -> Any:
        async with asking():
            return await work(redis)

    failed = chosen.state in {State.DEAD, State.UNKNOWN}
    return JobList(
        use,
        None if failed else visit.context.services.history,
        index=keys.DEAD if failed else keys.RECENT,
        patience=PATIENCE,
        visible=_asked_for,
    )


def _asked_for(job: JobStatus) -> bool:
    """Whether an application asked for it: parts of a sync or of a broadcast are shown as a whole elsewhere."""
    kind = KINDS.get(job.kind)
    return kind is None or kind.is_reported


async def _userid(visit: Visit, text: str) -> str:
    """The userid of a person who is named by it, or by the name that the directory has.

    Raises:
        BadFilter: several people have this name.
    """
    found = await visit.context.services.history.people(text, app=None, limit=NAMESAKES)
    same = {each.userid for each in found if text in {each.userid, each.name}}
    if text in same or not same:
        return text
    if len(same) > 1:
        raise BadFilter(
            tr("to: several people are called {name}: {users}", name=text, users=", ".join(same))
        )
    return same.pop()


def _position(cursor: str) -> Position | None:
    return Position(*decoded(cursor, int, str)) if cursor else None
