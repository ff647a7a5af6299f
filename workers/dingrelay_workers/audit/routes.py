"""``/v1/audit``: who changed what."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from dingrelay_producers.client.filters import AuditFilter
from dingrelay_workers.audit.service import AuditEntry, AuditService, Place
from dingrelay_workers.http import paging
from dingrelay_workers.http.routes import HttpCall, Routes

ROUTES = Routes(tag="audit", scope="audit:read")


class AuditPage(BaseModel):
    """Some changes."""

    changes: list[AuditEntry]
    next: str | None = None
    """Cursor of the next page; null where this is the last."""


def place_of(cursor: str) -> Place:
    """The place that a cursor stands for.

    Raises:
        ValueError: it is none of ours.
    """
    at, number = paging.decode(cursor, datetime, int)
    if not 0 <= number < 2**63:
        raise paging.unknown_cursor()
    return at, number


class AuditPaging(paging.Paging):
    """Which part of the audit."""

    cursor: Annotated[str, Field(max_length=1_000), paging.checked(place_of)] | None = None
    """`next` of the page before."""


@ROUTES("GET /v1/audit", AuditPage, query=paging.query_of(AuditFilter, AuditPaging))
async def list_changes(call: HttpCall) -> AuditPage:
    """Who changed what, the latest first.

    Through the console, HTTP and the command line, kept for 400 days. A key for some apps sees the changes of these.
    """
    asked: AuditPaging = call.query
    chosen = AuditFilter(apps=call.key.sees["apps"], **asked.filters())
    place = place_of(asked.cursor) if asked.cursor else None
    found = await call.context.service(AuditService).list(chosen, limit=asked.limit, after=place)
    last = found[-1] if len(found) == asked.limit else None
    return AuditPage(
        changes=list(found), next=paging.encode(last.at, last.number) if last else None
    )
