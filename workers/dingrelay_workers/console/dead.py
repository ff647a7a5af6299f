"""The page of jobs that have failed for good: by the code of their error, with what can be done."""

from collections.abc import Sequence
from typing import Literal, cast, get_args

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_list import MOST_COUNTED, Brief
from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.language import tr
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.jobs import FAILED, listing
from dingrelay_workers.console.sentences import STATES, meaning
from dingrelay_workers.console.visit import NotHere, Visit

EXAMPLES = 10
"""Jobs that a confirmation names."""
_Change = Literal["requeue", "discard"]


@at("/dead", scope="jobs:read", menu=("operation", 30, en("Failed")))
async def dead(visit: Visit) -> web.Response:
    """Jobs that have failed for good, or may have happened, by the code of their error."""
    dead_codes = await listing(visit, failed=True).codes(JobFilter())
    groups = [(code, meaning(STATES, code.state)) for code in dead_codes.codes]
    return visit.page("dead.html", groups=groups, more=not dead_codes.complete, most=MOST_COUNTED)


@at("/dead/{change}", scope="jobs:write")
async def confirm_change(visit: Visit) -> web.Response:
    """Ask before jobs of a code, or those that were ticked, are requeued or discarded."""
    change, briefs = _change_of(visit), await _chosen_jobs(visit)
    if not briefs:
        return visit.redirect("/dead")
    count = len(briefs)
    lines = [
        tr("Each is tried again at once, with what it has already done remembered.")
        if change == "requeue"
        else tr("Nothing of them is kept but their lines in the history. This can't be undone.")
    ]
    unclear = sum(job.state == State.UNKNOWN for job in briefs)
    if unclear and change == "requeue":
        lines.append(
            tr(
                "{unclear:,} of them may have happened: requeued, they may happen twice.",
                unclear=unclear,
            )
        )
    return visit.confirmation(
        f"/dead/{change}?{visit.request.query_string}",
        title=tr("Requeue {count:,} jobs?", count=count)
        if change == "requeue"
        else tr("Discard {count:,} jobs for good?", count=count),
        button=tr("Requeue {count:,} jobs", count=count)
        if change == "requeue"
        else tr("Discard {count:,} jobs", count=count),
        lines=tuple(lines),
        examples=tuple(
            f"{local(moment_of(job.at))} {job.kind} {job.app} {job.code} {job.id}"
            for job in briefs[:EXAMPLES]
        ),
        count=count,
        state=_state_of(visit, briefs),
        back="/dead",
    )


async def _state(visit: Visit) -> dict[str, object]:
    return _state_of(visit, await _chosen_jobs(visit))


def _state_of(visit: Visit, briefs: Sequence[Brief]) -> dict[str, object]:
    """The jobs that a form was made for: it names them in its URL, which the token does not sign."""
    parameters = visit.request.query.getall("job", []) or [
        visit.query("state"),
        visit.query("code"),
    ]
    return {"jobs": len(briefs), "chosen": " ".join(parameters)}


@act("/dead/{change}", scope="jobs:write", state=_state)
async def change_jobs(visit: Visit, _: FormValues) -> web.Response:
    """Requeue or discard them."""
    change = _change_of(visit)
    ids = [job.id for job in await _chosen_jobs(visit)]
    jobs = Jobs(visit.context.settings)
    changed = len(await visit.context.carry_out(jobs.change_all(change, ids)))
    sentence = en("{:,} jobs are requeued.", changed)
    if change == "discard":
        sentence = en("{:,} jobs are discarded.", changed)
    return visit.redirect("/dead", sentence)


def _change_of(visit: Visit) -> _Change:
    change = visit.part("change")
    if change not in get_args(_Change):
        raise NotHere
    return cast("_Change", change)


async def _chosen_jobs(visit: Visit) -> list[Brief]:
    """The failed jobs that the URL names, by state and code or one by one."""
    query = visit.request.query
    job_filter = JobFilter()
    ids = set(query.getall("job", []))
    if not ids:
        if "code" not in query or visit.query("state") not in FAILED:
            raise NotHere
        job_filter = JobFilter(state=State(visit.query("state")), code=visit.query("code"))
    briefs, _ = await listing(visit, failed=True).briefs(job_filter)
    return [job for job in briefs if job.id in ids or not ids]
