"""The forms that pause lanes and senders, and resume them; what is paused stands on the pages of limits and of now."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from dingrelay_producers.client.lanes import USUAL, LaneName, Lanes, Pause
from dingrelay_producers.store import clock
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit.service import AuditEntry, AuditService
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.console.titles import lane_words
from dingrelay_workers.console.verb_forms import VerbForms
from dingrelay_workers.console.visit import NotHere, Visit


async def paused(visit: Visit, job: JobStatus | None = None) -> list[Pause]:
    """The lanes and senders that are paused, or those of a job, as far as the visitor may see them; the page knows who paused them."""
    pauses = await visit.context.carry_out(Lanes().paused(scope=visit.scope))
    if job:
        jobs = job.app, job.lane, job.sender
        pauses = [pause for pause in pauses if pause.name.has(*jobs)]
    await visit.know(*(pause.by for pause in pauses))
    return pauses


async def names_of_lanes(visit: Visit, names: Collection[str]) -> Mapping[str, str]:
    """The lanes in words."""
    return {name: lane_words(name, visit.context.only_app) for name in names}


async def ends_of_pauses(visit: Visit, entries: Sequence[AuditEntry]) -> Mapping[int, str]:
    """Number of each pause in the audit that ended at its time → the same in words."""
    pauses = [entry for entry in entries if entry.action == "pause"]
    if not pauses:
        return {}
    since = min(pause.at for pause in pauses)
    lanes = {pause.object for pause in pauses}
    changes = await visit.service(AuditService).changes_of("lane", lanes, since)
    ends: dict[int, str] = {}
    for pause in pauses:
        until = (pause.after or {}).get("until")
        end = datetime.fromisoformat(until) if until else pause.at + USUAL
        later = [
            change
            for change in changes
            if change.object == pause.object and change.number > pause.number and change.at < end
        ]
        if not later and end <= clock.now():
            ends[pause.number] = en("ended by itself, {}", spoken(end))
    return ends


def words_of_pause(visit: Visit, pause: Pause) -> str:
    """A pause in words, with its reason."""
    words = en("paused by {} until {}", visit.name_of(pause.by), spoken(pause.until))
    return en("{}: {}", words, pause.reason) if pause.reason else words


async def _words(visit: Visit) -> str:
    return lane_words(visit.part("id"), visit.context.only_app)


async def _state(visit: Visit) -> dict[str, object]:
    try:
        name = str(LaneName.parse(visit.part("id")))
    except ContractError:
        raise NotHere from None
    until = [pause.until for pause in await paused(visit) if pause.id == name]
    return {"paused until": until[0].isoformat() if until else ""}


VerbForms(
    noun=Lanes,
    page="/lanes/{id}",
    state=_state,
    following=lambda verb, _: ("/", verb.done),
    about=_words,
    back="/",
).declare()
