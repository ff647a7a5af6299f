"""``/v1/approvals``: states of approvals, from SQL; actions on them, as jobs.

`createApproval` is one of the routes that make jobs.
"""

from datetime import datetime
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.client.approval_verbs import ApprovalVerbs
from dingrelay_producers.client.approvals import ApprovalStatus
from dingrelay_producers.client.filters import ApprovalFilter
from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_tasks.approval_actions import Action
from dingrelay_tasks.contract import AppName
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.http import paging
from dingrelay_workers.http.job_routes import made, makes_job
from dingrelay_workers.http.routes import Body, HttpCall, Routes


class ApprovalPaging(paging.Paging):
    """Page of a list of approvals."""

    cursor: Annotated[Any, paging.Behind(datetime, str, str)] = None


ApprovalPage = paging.page_of(
    "ApprovalPage", "Some approvals, the newest first.", approvals=ApprovalStatus
)
ApprovalQuery = paging.query_of(ApprovalFilter, ApprovalPaging)


class OneApproval(paging.Query):
    """The app of an approval."""

    app: AppName = "default"


# No slash or backslash: in a path they are refused however they are spelled (`http/middleware.py`).
_INSTANCE = {"type": "string", "pattern": "^[\\x21-\\x2e\\x30-\\x5b\\x5d-\\x7e]{1,128}$"}

ROUTES = Routes(tag="approvals")


@ROUTES(
    "GET /v1/approvals",
    ApprovalPage,
    scope="approvals:read",
    query=ApprovalQuery,
    problems=frozenset({403, 503}),
)
async def list_approvals(call: HttpCall) -> BaseModel:
    """List approvals and their states."""
    query: ApprovalPaging = call.query
    approvals = await call.context.service(ApprovalService).list(
        ApprovalFilter(**query.filters()), limit=query.limit, after=query.cursor
    )
    behind = paging.behind(approvals, query.limit, "known_since", "app", "instance")
    return ApprovalPage(approvals=list(approvals), next=behind)


@ROUTES(
    "GET /v1/approvals/{instance}",
    ApprovalStatus,
    scope="approvals:read",
    query=OneApproval,
    problems=frozenset({404, 503}),
    path_parameters={"instance": _INSTANCE},
)
async def get_approval(call: HttpCall) -> ApprovalStatus:
    """Show an approval and its state."""
    approvals = call.context.service(ApprovalService)
    return await approvals.show(call.query.app, call.path("instance"))


def _declare(verb: Verb) -> None:
    """Declare the route of a verb, whose job can be waited for."""
    model = verb.request
    assert model is not None
    assert issubclass(model, Action)

    async def handle(call: HttpCall) -> web.StreamResponse:
        request = model.parse(call.body, strict=True)
        body = getattr(ApprovalVerbs(call.context.settings), verb.name)
        return await made(call, body(call.path("instance"), request))

    makes_job(
        ROUTES,
        f"{verb.method} {verb.path}",
        operation=verb.operation,
        summary=verb.summary,
        scope=verb.scope,
        body=Body(model=model),
        problems=frozenset({403, 404, 409, 422, 429, 503}),
        path_parameters={"instance": _INSTANCE},
    )(handle)


for _verb in verbs_of(ApprovalVerbs):
    _declare(_verb)
