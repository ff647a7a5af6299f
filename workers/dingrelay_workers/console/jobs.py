"""The pages of jobs: the latest that fit a filter, one of them, and those that failed for good."""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.history_documents import JobDetails
from dingrelay_producers.client.job_details import details_of
from dingrelay_producers.client.job_list import JobList, Position
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.language import tr
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.console.app import BadFilter, NotHere, Visit
from dingrelay_workers.console.screens import PAGE, at, decoded
from dingrelay_workers.console.words import OUTCOMES, STATES, meaning
from dingrelay_workers.http import paging

MOST_DEAD = 2_000
"""Failed jobs that are grouped, the latest ones."""
PATIENCE = 2.0
"""Seconds for an answer of the history."""
_FIELD = re.compile(r"(\w+):(\S+)")
_AGE = re.compile(r"(\d{1,4})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@at("/jobs")
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


@at("/jobs/{id}")
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


@at("/dead")
async def dead(visit: Visit) -> web.Response:
    """Jobs that have failed for good, by the code of their error."""
    found = await _job_list(visit).find(JobFilter(state=State.DEAD), MOST_DEAD)
    counts = Counter(map(_code, found))
    latest = {_code(job): job for job in reversed(found)}
    groups = [(code, count, latest[code]) for code, count in counts.most_common()]
    return visit.page("dead.html", groups=groups, more=len(found) == MOST_DEAD, most=MOST_DEAD)


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
    return Position(*decoded(cursor, int, str)) if cursor else None


def _code(job: JobStatus) -> str:
    return job.error.code if job.error else ""
