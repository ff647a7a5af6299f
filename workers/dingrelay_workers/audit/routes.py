"""``/v1/audit``: who changed what."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel

from dingrelay_producers.client.filters import AuditFilter
from dingrelay_workers.audit.service import AuditEntry, AuditService
from dingrelay_workers.http import paging
from dingrelay_workers.http.routes import HttpCall, Routes

ROUTES = Routes(tag="audit", scope="audit:read")


AuditPage = paging.page_of("AuditPage", "Some changes.", changes=AuditEntry)


class AuditPaging(paging.Paging):
    """Page of the audit."""

    cursor: Annotated[Any, paging.Behind(datetime, int)] = None


@ROUTES("GET /v1/audit", AuditPage, query=paging.query_of(AuditFilter, AuditPaging))
async def list_changes(call: HttpCall) -> BaseModel:
    """List changes with their actors, the latest first.

    Through the console, HTTP and the command line, kept for 400 days. A key for some apps sees the changes of these.
    """
    query: AuditPaging = call.query
    audit_filter = AuditFilter(**query.filters())
    entries = await call.context.service(AuditService).list(
        audit_filter, limit=query.limit, after=query.cursor
    )
    return AuditPage(
        changes=list(entries), next=paging.behind(entries, query.limit, "at", "number")
    )
