"""The jobs of a filter as a file for a spreadsheet."""

from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from dingrelay_producers.language import tr, translated
from dingrelay_producers.spreadsheet import SPREADSHEET, csv_line
from dingrelay_producers.store.status import JobStatus
from dingrelay_producers.zone import local
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.jobs import FAILED, MOST_IN_FILE, listing, selected
from dingrelay_workers.console.sentences import STATES, meaning
from dingrelay_workers.console.titles import kind_words
from dingrelay_workers.console.visit import PAGE, Visit


@at("/jobs.csv", scope="jobs:read")
async def jobs_csv(visit: Visit) -> web.StreamResponse:
    """The latest jobs that fit the filter of the list."""
    selection = await selected(visit)
    jobs = listing(visit, failed=selection.state in FAILED)

    async def lines() -> AsyncIterator[bytes]:
        yield csv_line(_titles()).encode(SPREADSHEET)
        written, after = 0, None
        while written < MOST_IN_FILE:
            page, after = await jobs.page(selection, PAGE, after)
            yield "".join(csv_line(_row(job)) for job in page).encode()
            written += len(page)
            if after is None:
                break

    return await visit.send_csv(lines(), tr("Jobs"))


def _titles() -> Sequence[str]:
    return (
        *(tr("accepted"), tr("kind"), tr("state"), tr("app"), tr("sender"), tr("lane")),
        *(tr("ended"), tr("error"), tr("reason"), tr("job")),
    )


def _row(job: JobStatus) -> Sequence[object]:
    ended = local(job.settled_at)[:19] if job.settled_at else ""
    error = job.error
    return (
        *(
            local(job.created_at)[:19],
            kind_words(job.kind),
            translated(meaning(STATES, job.state).words),
        ),
        *(job.target or job.app, job.sender, job.lane, ended),
        *((error.code, translated(error.message)) if error else ("", "")),
        job.id,
    )
