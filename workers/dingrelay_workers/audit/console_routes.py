"""The page of the audit: who changed what."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from urllib.parse import urlencode

from aiohttp import web

from dingrelay_producers.client.filters import AuditFilter
from dingrelay_producers.client.outcomes import Meaning
from dingrelay_producers.language import tr, translated
from dingrelay_producers.spreadsheet import SPREADSHEET
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit.models import OF_PEOPLE
from dingrelay_workers.audit.service import AuditEntry, AuditService, csv_line_of, csv_lines
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.job_filter import moment
from dingrelay_workers.console.moments import spoken
from dingrelay_workers.console.sentences import ACTIONS, OUTCOMES, STATES, action_words, meaning
from dingrelay_workers.console.titles import names_of_jobs
from dingrelay_workers.console.visit import PAGE, WRITERS, Visit
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging
from dingrelay_workers.noun import Audited
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.roles.scopes import NAMES

DOORS: Mapping[str, str] = {
    "console": en("console"),
    "http": "HTTP",
    "cli": en("command line"),
    "python": "Python",
}
KINDS: Mapping[str, Audited] = {
    kind.kind: kind
    for declared in ([Audited("job", en("job"), "/jobs/")], *(noun.audited for noun in NOUNS))
    for kind in declared
}
"""Kind of object → what is shown of it."""
STATES_OF: Mapping[str, Mapping[str, Meaning]] = {
    "job": STATES,
    **{kind.kind: noun.load(kind.states) for noun in NOUNS for kind in noun.audited if kind.states},
}
_NAMES: Mapping[str, Callable[[Visit, Collection[str]], Awaitable[Mapping[str, str]]]] = {
    "job": names_of_jobs,
    **{kind.kind: noun.load(kind.names) for noun in NOUNS for kind in noun.audited if kind.names},
}
"""Kind of object → the names of those of these ids that have one."""
_ENDS: Mapping[str, Callable[[Visit, Sequence[AuditEntry]], Awaitable[Mapping[int, str]]]] = {
    kind.kind: noun.load(kind.ends) for noun in NOUNS for kind in noun.audited if kind.ends
}
"""Kind of object → how the effects of these changes ended, by their numbers."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*")


@at("/settings/audit", scope="audit:read", menu=("settings", 30, en("Audit")))
async def audit(visit: Visit) -> web.Response:
    """List changes with their actors, the latest first."""
    audit_filter, values = _filter(visit), {name: visit.query(name) for name in _FIELDS}
    entries = await visit.service(AuditService).list(
        audit_filter, limit=PAGE + 1, after=visit.after(datetime, int)
    )
    last = entries[PAGE - 1] if len(entries) > PAGE else None
    people = {entry.actor for entry in entries if entry.door == "console"}
    people |= {entry.object for entry in entries if entry.kind in OF_PEOPLE}
    names = await visit.service(HistoryService).names(people, apps=visit.directories)
    objects = {
        kind: {entry.object for entry in entries if entry.kind == kind}
        for kind in {entry.kind for entry in entries}
    }
    return visit.page(
        "audit.html",
        names=names,
        there={
            kind: await WRITERS[kind](visit, ids)
            for kind, ids in objects.items()
            if kind in WRITERS
        },
        called=partial(_called, await _names_of(visit, objects), names),
        changes=entries[:PAGE],
        cursor=paging.encode(last.at, last.number) if last else "",
        given=values,
        query=urlencode({name: value for name, value in values.items() if value}),
        doors=DOORS,
        kinds=KINDS,
        words_of={name: kind.words for name, kind in KINDS.items()},
        of_people=OF_PEOPLE,
        actions={action: action_words("", action) for action in ACTIONS if "." not in action},
        change_of=_change,
        ends=await _ends_of(visit, entries),
        roles=NAMES,
    )


async def _names_of(
    visit: Visit, objects: Mapping[str, Collection[str]]
) -> dict[str, Mapping[str, str]]:
    """Kind of object → names of those that exist and have one."""
    return {
        kind: await _NAMES[kind](visit, objects[kind]) for kind in objects.keys() & _NAMES.keys()
    }


async def _ends_of(visit: Visit, entries: Sequence[AuditEntry]) -> Mapping[int, str]:
    ends: dict[int, str] = {}
    for kind, ends_of in _ENDS.items():
        ends |= await ends_of(visit, [entry for entry in entries if entry.kind == kind])
    return ends


def _called(
    named: Mapping[str, Mapping[str, str]], people: Mapping[str, str], entry: AuditEntry
) -> str:
    """The name of what was changed, as it is now, or as the change has it; empty where it has none."""
    if entry.kind in OF_PEOPLE:
        return people.get(entry.object, "")
    stored = {**(entry.before or {}), **(entry.after or {})}.get("name")
    name = named.get(entry.kind, {}).get(entry.object)
    return name or (stored if isinstance(stored, str) else "")


def _change(entry: AuditEntry) -> str:
    """The change with its states in words; what stays as it was has one value."""
    before, after = entry.before or {}, entry.after or {}
    changed = {name: value for name, value in before.items() if after.get(name) != value}
    shown = entry.model_copy(update={"before": changed})
    return shown.change(partial(_spelled, entry.kind))


def _in_words(entry: AuditEntry) -> AuditEntry:
    words = {
        "door": DOORS[entry.door],
        "kind": KINDS[entry.kind].words if entry.kind in KINDS else entry.kind,
    }
    shown = {name: translated(word) for name, word in words.items()}
    shown["action"] = action_words(entry.kind, entry.action)
    return entry.model_copy(update=shown | {"role": _spelled(entry.kind, "role", entry.role)})


def _spelled(kind: str, field: str, value: str) -> str:
    if field == "role":
        return " ".join(
            translated(NAMES[name][0]) if name in NAMES else name for name in value.split()
        )
    if field == "outcome":
        return translated(meaning(OUTCOMES, value).words)
    if _MOMENT.fullmatch(value):
        # A name may look like a moment, too.
        with suppress(ValueError, OverflowError):
            return spoken(datetime.fromisoformat(value))
    words = STATES_OF.get(kind, {}).get(value) if field == "state" else None
    return translated(words.words) if words else value


@at("/settings/audit.csv", scope="audit:read")
async def audit_csv(visit: Visit) -> web.StreamResponse:
    """The same as a file, without an end."""
    entries = visit.service(AuditService).export(_filter(visit))

    async def lines() -> AsyncIterator[bytes]:
        yield "".join(csv_lines(())).encode(SPREADSHEET)
        async for entry in entries:
            yield csv_line_of(_in_words(entry), partial(_spelled, entry.kind)).encode()

    return await visit.send_csv(lines(), tr("Audit"))


_FIELDS = ("actor", "kind", "action", "object", "since")


def _filter(visit: Visit) -> AuditFilter:
    values = {name: visit.query(name)[:200] or None for name in _FIELDS[:-1]}
    since = visit.query("since")[:40]
    return AuditFilter(
        **values,
        since=moment("since", since, clock.now()) if since else None,
    )
