"""The page of the audit: who changed what."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from dingrelay_producers.client.filters import AuditFilter
from dingrelay_producers.language import translated
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.spreadsheet import SPREADSHEET
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit.service import AuditEntry, csv_line_of, csv_lines
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.job_filter import moment
from dingrelay_workers.console.visit import PAGE, Visit, decoded
from dingrelay_workers.console.words import OF_CAMPAIGN, STATES, Meaning
from dingrelay_workers.http import paging
from dingrelay_workers.roles.scopes import NAMES

DOORS: Mapping[str, str] = {
    "console": en("console"),
    "http": "HTTP",
    "cli": en("command line"),
    "python": "Python",
}
KINDS: Mapping[str, str] = {
    "campaign": en("broadcast"),
    "approval": en("approval"),
    "job": en("job"),
    "key": en("API key"),
    "webhook": "Webhook",
    "role": en("role"),
    "login-link": en("login link"),
    "person": en("personal data"),
}
PAGES: Mapping[str, str] = {"campaign": "/campaigns/", "job": "/jobs/", "webhook": "/webhooks/"}
"""Kind of object → the beginning of its page's path."""
ACTIONS: Mapping[str, str] = {
    "create": en("made"),
    "start": en("started sending"),
    "pause": en("paused"),
    "resume": en("let run on"),
    "cancel": en("cancelled"),
    "delete": en("deleted"),
    "recall": en("taken back"),
    "confirm": en("asked who has read it"),
    "ask": en("submitted for approval"),
    "approved": en("approved"),
    "rejected": en("rejected"),
    "requeue": en("sent again"),
    "discard": en("discarded"),
    "resolve": en("decided what became of it"),
    "rotate": en("given a new secret"),
    "grant": en("granted"),
    "revoke": en("revoked"),
    "add": en("added"),
    "remove": en("removed"),
    "replay": en("delivered again"),
    "export": en("exported"),
    "erase": en("erased"),
    "terminate": en("withdrawn"),
    "agree": en("agreed to"),
    "refuse": en("refused"),
    "comment": en("commented on"),
}
"""Action of the audit → words. One that is not here stands for itself."""
STATES_OF: Mapping[str, Mapping[str, Meaning]] = {"campaign": OF_CAMPAIGN, "job": STATES}
_MOST_BYTES = 64_000


@at("/settings/audit", scope="audit:read")
async def audit(visit: Visit) -> web.Response:
    """Who changed what, the latest first."""
    chosen, given = _filter(visit), {name: visit.query(name) for name in _FIELDS}
    after = visit.query("after")
    place = decoded(after, datetime, int) if after else None
    found = await visit.context.services.audit.list(
        chosen, limit=PAGE + 1, after=(place[0], place[1]) if place else None
    )
    last = found[PAGE - 1] if len(found) > PAGE else None
    people = {each.actor for each in found if each.door == "console"}
    apps = {DEFAULT_APP, *visit.context.settings.apps}
    names = await visit.context.services.history.names(people, apps=apps)
    return visit.page(
        "audit.html",
        names=names,
        changes=found[:PAGE],
        cursor=paging.encode(last.at, last.number) if last else "",
        given=given,
        query=urlencode({name: value for name, value in given.items() if value}),
        doors=DOORS,
        kinds=KINDS,
        actions=ACTIONS,
        pages=PAGES,
        change_of=_change,
        roles=NAMES,
    )


def _change(entry: AuditEntry) -> str:
    """What has changed, with the states in words."""

    def spelled(field: str, value: str) -> str:
        words = STATES_OF.get(entry.kind, {}).get(value) if field == "state" else None
        return translated(words.words) if words else value

    return entry.change(spelled)


@at("/settings/audit.csv", scope="audit:read")
async def audit_csv(visit: Visit) -> web.StreamResponse:
    """The same as a file, without an end."""
    chosen = _filter(visit)
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=utf-8",
            "Content-Disposition": 'attachment; filename="audit.csv"',
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(visit.request)
    lines = bytearray("".join(csv_lines(())).encode(SPREADSHEET))
    async for each in visit.context.services.audit.every(chosen):
        lines += csv_line_of(each).encode()
        if len(lines) > _MOST_BYTES:
            await response.write(bytes(lines))
            lines.clear()
    await response.write_eof(bytes(lines))
    return response


_FIELDS = ("actor", "kind", "action", "object", "since")


def _filter(visit: Visit) -> AuditFilter:
    given = {name: visit.query(name)[:200] or None for name in _FIELDS[:-1]}
    since = visit.query("since")[:40]
    return AuditFilter(
        **given,
        since=moment("since", since, datetime.now(UTC)) if since else None,
        apps=visit.grant.sees["apps"],
    )
