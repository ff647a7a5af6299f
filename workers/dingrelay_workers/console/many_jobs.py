"""Changes of all jobs that fit a filter, or that were ticked, after a look at how many they are."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from aiohttp import web

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_list import MOST_COUNTED, Brief
from dingrelay_producers.client.jobs import CHANGEABLE, ChangeOfMany, Jobs
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.states import State
from dingrelay_tasks.sentence import Sentence, en
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.jobs import FAILED, listing, selected
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.console.titles import kind_words
from dingrelay_workers.console.visit import NotHere, Visit

_DIGITS = 16
"""Digits of the digest of jobs, on the page that says that they are others by now."""
EXAMPLES = 10
"""Jobs that a confirmation names."""


class _Words(NamedTuple):
    """How a change of many jobs is said.

    Attributes:
        done: a template for how many were changed.
        ends: as of a `Confirmation`.
    """

    title: str
    button: str
    line: str
    done: str
    ends: bool


_WORDS: Mapping[ChangeOfMany, _Words] = {
    "cancel": _Words(
        en("Cancel {:,} jobs?"),
        en("Cancel {:,} jobs"),
        en("One that runs just now is carried out, and not tried again."),
        en("{:,} jobs are cancelled."),
        ends=True,
    ),
    "requeue": _Words(
        en("Requeue {:,} jobs?"),
        en("Requeue {:,} jobs"),
        en("Each is tried again at once, with what it has already done remembered."),
        en("{:,} jobs are requeued."),
        ends=False,
    ),
    "discard": _Words(
        en("Discard {:,} jobs for good?"),
        en("Discard {:,} jobs"),
        en("Nothing of them is kept but their lines in the history. This can't be undone."),
        en("{:,} jobs are discarded."),
        ends=True,
    ),
}


@at("/jobs/all/{change}", scope="jobs:write")
async def confirm_change(visit: Visit) -> web.Response:
    """Ask before jobs that fit a filter, or those that were ticked, are changed."""
    change = _change_of(visit)
    briefs, complete = await _chosen_jobs(visit, change)
    back = "/jobs?" + visit.request.url.with_query(q=visit.query("q")).query_string
    if not briefs:
        return visit.redirect(back, en("No job fits."))
    words, count = _WORDS[change], len(briefs)
    lines: list[str] = [words.line]
    unclear = sum(job.state == State.UNKNOWN for job in briefs)
    if unclear and change == "requeue":
        lines.append(
            en("{:,} of them may have happened: requeued, they may happen twice.", unclear)
        )
    if not complete:
        lines.append(en("The latest {:,} of them.", MOST_COUNTED))
    return visit.confirmation(
        title=Sentence(words.title, count),
        button=Sentence(words.button, count),
        lines=lines,
        examples=[_example(job) for job in briefs[:EXAMPLES]],
        count=count,
        state=_state_of(visit, briefs),
        back=back,
        ends=words.ends,
    )


def _example(job: Brief) -> str:
    at = spoken(moment_of(job.at))
    about = job.target or job.app, kind_words(job.kind), job.sender, job.code, job.id
    return " · ".join(filter(None, (at, *about)))


async def _state(visit: Visit) -> dict[str, object]:
    briefs, _ = await _chosen_jobs(visit, _change_of(visit))
    return _state_of(visit, briefs)


def _state_of(visit: Visit, briefs: Sequence[Brief]) -> dict[str, object]:
    """The jobs that a form was made for: their number, and these ones; its URL names them, which the token does not sign."""
    chosen = visit.request.query.getall("job", []) or [visit.query("q")]
    digest = hashlib.sha256(" ".join(sorted(job.id for job in briefs)).encode()).hexdigest()
    return {"jobs": f"{len(briefs)} ({digest[:_DIGITS]})", "chosen": " ".join(chosen)}


@act("/jobs/all/{change}", scope="jobs:write", state=_state)
async def change_jobs(visit: Visit, _: FormValues) -> web.Response:
    """Change them."""
    change = _change_of(visit)
    briefs, _complete = await _chosen_jobs(visit, change)
    jobs = Jobs(visit.context.settings)
    changed = await visit.context.carry_out(jobs.change_all(change, [job.id for job in briefs]))
    return visit.redirect("/jobs", Sentence(_WORDS[change].done, len(changed)))


def _change_of(visit: Visit) -> ChangeOfMany:
    change = visit.part("change")
    if change not in _WORDS:
        raise NotHere
    return cast("ChangeOfMany", change)


async def _chosen_jobs(visit: Visit, change: ChangeOfMany) -> tuple[list[Brief], bool]:
    """The jobs that the URL names, by a filter or one by one, in states in which they can be changed; and whether these are all."""
    states = {state for state in CHANGEABLE[change] if change != "cancel" or not state.ended}
    ids = set(visit.request.query.getall("job", []))
    if not ids and not visit.query("q"):
        raise NotHere
    job_filter = JobFilter() if ids else await selected(visit)
    failed = states & FAILED if job_filter.state is None else {job_filter.state} & FAILED
    jobs = listing(visit, failed=bool(failed), states=states)
    briefs, complete = await jobs.briefs(job_filter)
    return [job for job in briefs if job.id in ids or not ids], complete
