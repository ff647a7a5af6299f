"""The pages of jobs: the latest that fit a filter, and one of them."""

import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, cast
from urllib.parse import urlencode

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.history_documents import JobDetails
from dingrelay_producers.client.job_details import recall_of
from dingrelay_producers.client.job_list import Brief, JobList, Position
from dingrelay_producers.client.jobs import (
    CHANGEABLE,
    Change,
    ChangeOfMany,
    JobResolution,
    Jobs,
    check_change,
)
from dingrelay_producers.client.lanes import Pause
from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.client.verbs import Verb
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.language import tr
from dingrelay_producers.store import clock, keys, record
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_producers.zone import local
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.kinds import KINDS, reported_kinds
from dingrelay_tasks.sentence import en
from dingrelay_workers.backlog.console_routes import paused, words_of_pause
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.job_filter import (
    LONGEST,
    job_filter,
    parse,
    spelled,
    state_offers,
    suggestions,
)
from dingrelay_workers.console.moments import RANGES
from dingrelay_workers.console.sentences import (
    START,
    STATES,
    WAITS,
    meaning,
    outage,
    people_by_outcome,
)
from dingrelay_workers.console.titles import robots_in, target_words, titles_of
from dingrelay_workers.console.verb_forms import VerbForms
from dingrelay_workers.console.visit import PAGE, BadFilter, Visit, text_of
from dingrelay_workers.dingtalk.classify import hint_of
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.history.writer import dingtalk_ids
from dingrelay_workers.http import paging
from dingrelay_workers.limiter.breakers import read_breakers
from dingrelay_workers.roles.scopes import operates

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIMEOUT = 2.0
"""Seconds for an answer of the history."""
SPAN = ("since", "until")
"""Fields of the filter that name a time."""
FAILED = frozenset({State.DEAD, State.UNKNOWN})
SHOWN = 50
"""People of each outcome who are named."""
LOOKS_ON = 0.02
"""Seconds for which a page looks for its first job that fits before it shows how far back it has looked."""
MOST_IN_FILE = 10_000
"""Jobs in a file: a few seconds of one connection. More is asked for by a narrower time."""
NAMESAKES = 10
"""People of one name who are listed."""


@at("/jobs", scope="jobs:read", menu=("operation", 20, en("Jobs")))
async def jobs(visit: Visit) -> web.Response:
    """The latest jobs that fit a filter in the URL."""
    text = visit.query("q")[:LONGEST]
    if _ID.fullmatch(text):
        return visit.redirect(f"/jobs/{text}")
    texts: dict[str, str] = {}
    try:
        texts = parse(text)
        if span := {name: visit.query(name)[:40] for name in SPAN if visit.query(name)}:
            # Two days that were chosen are a part of the filter.
            return visit.redirect(f"/jobs?{urlencode({'q': spelled({**texts, **span})})}")
        selection = await _selection_of(visit, texts)
    except BadFilter as error:
        return _list(visit, text, texts, await _briefs(visit), problem=str(error), status=400)
    after = visit.after(int, str, read=paging.position)
    page, more = await visit.context.shared.get(
        ("jobs", visit.reach, selection, after), lambda: _page(visit, selection, after)
    )
    titles = await titles_of(visit, {job.id: job.kind for job in page})
    pauses = await paused(visit) if any(map(_is_paused, page)) else ()
    briefs = await _briefs(visit)
    return _list(visit, text, texts, briefs, page, more, titles=titles, pauses=pauses)


async def _briefs(visit: Visit) -> Sequence[Brief]:
    """The newest jobs, and those that failed: what they have is suggested for the filter."""

    async def read() -> list[Brief]:
        lists = [listing(visit, failed=failed) for failed in (False, True)]
        return [job for part in lists for job in (await part.briefs(JobFilter()))[0]]

    return await visit.context.checks.get(("jobs", visit.reach), read)


def _is_paused(job: JobStatus) -> bool:
    return job.waits_for is not None and job.waits_for.what == "pause"


def _look_of(visit: Visit, job: JobStatus, pauses: Sequence[Pause]) -> Meaning:
    """The state of a job, or what it waits for; of one that is paused the person and the end."""
    if job.waits_for is None:
        return meaning(STATES, job.state)
    if not _is_paused(job):
        return WAITS[job.waits_for.what]
    # None where it was resumed just now.
    pause = next((pause for pause in pauses if pause.id == job.waits_for.name), None)
    if pause is None:
        return meaning(STATES, job.state)
    return Meaning("doubt", words_of_pause(visit, pause))


def _changes_of_all(texts: Mapping[str, str]) -> Sequence[ChangeOfMany]:
    """Changes that can be made to all jobs of a filter; none without one, which would be all there are."""
    state = texts.get("state")
    if not texts:
        return ()
    if state is None or not State(state).ended:
        return ("cancel",)
    return [change for change in ("requeue", "discard") if state in CHANGEABLE[change]]


async def selected(visit: Visit) -> JobFilter:
    """The filter in the URL.

    Raises:
        BadFilter: it can't be read, or names a person who is unknown.
    """
    return await _selection_of(visit, parse(visit.query("q")[:LONGEST]))


async def _selection_of(visit: Visit, texts: Mapping[str, str]) -> JobFilter:
    people = {"to": await userid_of(visit, texts["to"], "to")} if "to" in texts else {}
    return job_filter({**texts, **people}, clock.now())


async def _page(
    visit: Visit, selection: JobFilter, after: Position | None
) -> tuple[list[JobStatus], Position | None]:
    """A page of the list; parts of it without a job that fits are passed over for a moment."""
    job_listing = listing(visit, failed=selection.state in FAILED)
    began = time.monotonic()
    page, more = await job_listing.page(selection, PAGE, after)
    while not page and more and time.monotonic() < began + LOOKS_ON:
        page, more = await job_listing.page(selection, PAGE, more)
    return page, more


def _list(
    visit: Visit,
    text: str,
    texts: dict[str, str],
    briefs: Sequence[Brief],
    page: Sequence[JobStatus] = (),
    more: Position | None = None,
    *,
    titles: Mapping[str, str] | None = None,
    pauses: Sequence[Pause] = (),
    problem: str = "",
    status: int = 200,
) -> web.Response:
    shown = [(job, _look_of(visit, job, pauses)) for job in page]
    timeless = {name: value for name, value in texts.items() if name not in SPAN}
    targets = {
        job.id: target_words(job.target) or job.app
        for job in page
        if job.target or job.app != visit.context.only_app
    }
    return visit.page(
        "jobs.html",
        text=text,
        jobs=shown,
        targets=targets,
        titles=titles or {},
        most_in_file=MOST_IN_FILE,
        robots_in=robots_in,
        cursor=paging.encode(*more) if more else "",
        looked_back_to=moment_of(more.at) if more and len(page) < PAGE else None,
        states=state_offers(texts),
        suggestions=suggestions(texts, briefs, visit.apps),
        since=texts.get("since", ""),
        until=texts.get("until", ""),
        timeless=spelled(timeless),
        ranges={"1h": en("the last hour"), **RANGES},
        ticks=texts.get("state") in FAILED and visit.may("jobs:write"),
        changes=_changes_of_all(texts) if page and visit.may("jobs:write") else (),
        problem=problem,
        status=status,
    )


@at("/jobs/{id}", scope="jobs:read")
async def job(visit: Visit) -> web.Response:
    """One job: its life, why it waits, its people, and what can be done."""
    jobs = Jobs(visit.context.settings)
    details = await visit.context.carry_out(jobs.details(visit.part("id"), scope=visit.scope))
    status = details.status
    async with asking():
        fields = record.fields(await run_async(visit.context.redis, record.read(status.id)))
    history = visit.service(HistoryService)
    titles = await titles_of(visit, {status.id: status.kind})
    people = people_by_outcome(details.recipients)
    shown = {user for _, users in people for user in users[:SHOWN]}
    names = await history.names(shown, apps=[status.app])
    if status.resolved and status.resolved.by:
        await visit.know(status.resolved.by)
    result = {name: value for name, value in (status.result or {}).items() if value != []}
    pauses = [] if status.state.ended else await paused(visit, status)
    may_change = current_reach().reaches(
        "jobs:write", app=status.app, lane=status.lane, target=status.target
    )
    return visit.page(
        "job.html",
        job=status,
        title=titles.get(status.id, ""),
        # The history, which has who read it, does not say who posted it.
        robots=robots_in(JobStatus.from_record(status.id, fields).result if fields else None),
        state=_look_of(visit, status, pauses),
        now=_state_of(status),
        changes=[
            name
            for name, states in CHANGEABLE.items()
            if fields and may_change and status.state in states
        ],
        recall=await _recall(visit, details) if may_change else None,
        why=await _why_it_waits(visit.context.redis, status, fields),
        pauses=pauses,
        key=details.key,
        life=_life(visit, status, fields),
        people=people,
        names=names,
        shown=SHOWN,
        hint=hint_of(status.error.code) if status.error else "",
        ids=result.get("ids") or dingtalk_ids(result),
        result=result,
    )


def _life(
    visit: Visit, job: JobStatus, fields: Mapping[bytes, bytes]
) -> Sequence[tuple[datetime, str, str]]:
    """Events of a job, past and to come, in the order of time: moment, words and detail."""
    worker = fields.get(b"owner", b"").decode(errors="replace").partition("/")[0]
    resolved, is_open = job.resolved, not job.state.ended
    steps: list[tuple[datetime | None, str, str]] = [
        (job.created_at, en("accepted"), ""),
        (_moment(fields, b"not_before"), en("not before then"), ""),
        (job.started_at, en("begun"), worker if operates(visit.session.grants) else ""),
        (job.settled_at, en("has ended"), ""),
    ]
    if resolved:
        words = en("it happened") if resolved.happened else en("it did not happen")
        steps.append((resolved.at, words, visit.name_of(resolved.by) if resolved.by else ""))
    if is_open:
        steps.append((job.due_at, en("is looked at next"), ""))
        steps.append((_moment(fields, b"expires"), en("its time is over"), ""))
    life = [(at, words, detail) for at, words, detail in steps if at]
    return sorted(life, key=itemgetter(0))


async def _recall(visit: Visit, details: JobDetails) -> tuple[str, bool] | None:
    """The job that takes a message back, and whether that was asked for; None where nothing can be taken back."""
    try:
        draft = record.draft(recall_of(details))
    except ContractError:
        return None
    (state,) = await visit.context.records.states([draft.id])
    return draft.id, state is not None


def _moment(fields: Mapping[bytes, bytes], name: bytes) -> datetime | None:
    return moment_of(int(fields[name])) if fields.get(name) else None


async def _status(visit: Visit) -> JobStatus:
    """The job of the path, which has a record.

    Raises:
        JobNotFound: there is none, or the person may not see it; the answer does not reveal which.
    """
    jobs = Jobs(visit.context.settings)
    return await visit.context.carry_out(jobs.status(visit.part("id"), scope=visit.scope))


async def _state(visit: Visit) -> dict[str, object]:
    return _state_of(await _status(visit))


def _state_of(job: JobStatus) -> dict[str, object]:
    """The state for which a form on a job's page was made: whether it is open matters, and not how it waits."""
    return {"state": meaning(STATES, job.state).words if job.state.ended else en("not over yet")}


async def _check(visit: Visit, verb: Verb) -> None:
    if verb.name in CHANGEABLE:
        check_change(cast("Change", verb.name), await _status(visit))


def _following(verb: Verb, job: JobStatus | None) -> tuple[str, str]:
    if job is None:
        return "/dead", verb.done
    return f"/jobs/{job.id}", RUNS_ON if job.state == "running" else verb.done


RUNS_ON = en("It runs: this run goes on, but it is not tried again.")
VerbForms(
    noun=Jobs,
    page="/jobs/{id}",
    state=_state,
    check=_check,
    following=_following,
).declare(by_hand={"resolve"})  # its page shows what may have happened


@at("/jobs/{id}/resolve", scope="jobs:write")
async def confirm_resolve(visit: Visit) -> web.Response:
    """Ask what became of a job whose answer was lost."""
    job = await _status(visit)
    check_change("resolve", job)
    kind = KINDS.get(job.kind)
    return visit.page(
        "resolve.html",
        job=job,
        now=_state_of(job),
        by_instance=kind is not None and kind.resolved_by != "sent",
    )


@act(
    "/jobs/{id}/resolve",
    scope="jobs:write",
    state=_state,
    page=confirm_resolve,
    labels={
        "happened": en("Did it happen?"),
        "instance": en("The approval that it created, if it happened"),
        "reason": en("How it is known; the audit keeps this"),
    },
)
async def resolve(visit: Visit, form: FormValues) -> web.Response:
    """Say what became of a job whose answer was lost."""
    job = await _status(visit)
    happened, instance = text_of(form, "happened"), text_of(form, "instance")
    if happened not in {"yes", "no"}:
        raise ContractError("happened", en("Say whether it happened."))
    if not text_of(form, "reason"):  # which the audit has
        raise ContractError("reason", en("a value is missing"))
    kind = KINDS.get(job.kind)
    if kind is None or kind.resolved_by == "sent":
        outcome = JobResolution(sent=happened == "yes")
    elif happened == "yes":
        outcome = JobResolution(instance=instance)
    else:
        outcome = JobResolution(not_created=True)
    steps = Jobs(visit.context.settings).resolve(job.id, outcome)
    job = await visit.context.carry_out(steps)
    return visit.redirect(
        f"/jobs/{job.id}", en("It is done.") if happened == "yes" else en("The job is requeued.")
    )


async def _why_it_waits(
    redis: Redis, job: JobStatus, fields: Mapping[bytes, bytes]
) -> Meaning | None:
    """Why an open job has not run; None of one that runs or has ended."""
    if job.state.ended or job.state == State.RUNNING:
        return None
    if job.state == State.QUEUED and job.due_at and job.due_at > clock.now():
        return Meaning("wait", en("It is not to run before {}.", local(job.due_at)))
    async with asking():
        queue = fields.get(b"queue", b"").decode(errors="replace")
        served = await redis.exists(keys.alive(queue))
        breakers = await read_breakers(redis) if job.waits_for else ()
    if _is_paused(job):
        return None  # its state says so
    if not served:
        return Meaning("bad", en("No worker serves the queue {}.", queue), START)
    for breaker in breakers:
        if job.waits_for and breaker.is_of(job.app, job.waits_for):
            return outage(breaker)
    if b"parked" in fields:
        return Meaning("wait", en("It waits for its sender's turn at a limit of DingTalk."))
    if job.error and job.due_at:
        return Meaning("wait", en("The last try failed; the next one is at {}.", local(job.due_at)))
    return Meaning("wait", en("Other jobs go first."))


def listing(visit: Visit, *, failed: bool, states: Collection[State] | None = None) -> JobList:
    """The jobs, or those in these states, that an application asked for, as far as the visitor may see them.

    Those that failed have an index of their own, which goes further back than the newest jobs.
    """
    redis = visit.context.redis

    async def use(work: Callable[[Any], Awaitable[Any]]) -> Any:
        async with asking():
            return await work(redis)

    return JobList(
        use,
        None if failed else visit.service(HistoryService),
        index=keys.DEAD if failed else keys.RECENT,
        timeout=TIMEOUT,
        # Parts of a sync or of a broadcast are shown as a whole elsewhere.
        scope=visit.scope,
        seen={"kind": reported_kinds()} | ({} if states is None else {"state": states}),
    )


async def userid_of(visit: Visit, text: str, field: str) -> str:
    """The userid of a person who is named by it, or by the name that the directory has.

    Raises:
        BadFilter: several people have this name.
    """
    history = visit.service(HistoryService)
    same = await history.namesakes(text, apps=visit.directories, limit=NAMESAKES)
    if text in same or not same:
        return text
    if len(same) > 1:
        raise BadFilter(
            tr(
                "{field}: several people are called {name}: {users}",
                field=field,
                name=text,
                users=", ".join(sorted(same)),
            )
        )
    return same.pop()
