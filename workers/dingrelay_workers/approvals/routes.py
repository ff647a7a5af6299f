"""``/v1/approvals``: states of approvals, from SQL; actions on them, as jobs.

`createApproval` is one of the routes that make jobs.
"""

from datetime import datetime
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.client.approvals import ApprovalStatus
from dingrelay_producers.client.filters import ApprovalFilter
from dingrelay_producers.errors import ApprovalNotFound
from dingrelay_tasks.approval_actions import (
    Action,
    CommentRequest,
    TerminationRequest,
    VerdictRequest,
)
from dingrelay_tasks.approval_decide import Decision
from dingrelay_tasks.contract import AppName, Contract
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.http import paging
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.http.authentication import check_app, check_asked, may_see
from dingrelay_workers.http.job_routes import accept, makes_job, waited
from dingrelay_workers.http.routes import Body, Declare, HttpCall, Routes

_Action = TypeVar("_Action", bound=Action)


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


def _changes(verb: str, body: type[BaseModel], **fields: Any) -> Declare:
    """Declares a route that makes a job of an action."""
    return makes_job(
        ROUTES,
        f"POST /v1/approvals/{{instance}}/{verb}",
        operation=f"{verb}Approval",
        scope="approvals:write",
        body=Body(model=body),
        problems=frozenset({403, 404, 409, 422, 429, 503}),
        path_parameters={"instance": _INSTANCE},
        **fields,
    )


@ROUTES(
    "GET /v1/approvals",
    ApprovalPage,
    scope="approvals:read",
    query=ApprovalQuery,
    problems=frozenset({403, 503}),
)
async def list_approvals(call: HttpCall) -> BaseModel:
    """List approvals and their states."""
    asked: ApprovalPaging = call.query
    key, filters = call.key, asked.filters()
    if filters["app"] is not None:
        check_app(key, filters["app"], "?app")
    found = await call.context.service(ApprovalService).list(
        ApprovalFilter(**filters, **key.sees), limit=asked.limit, after=asked.cursor
    )
    behind = paging.behind(found, asked.limit, "known_since", "app", "instance")
    return ApprovalPage(approvals=list(found), next=behind)


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
    return await _found(call, call.query.app)


@_changes("terminate", TerminationRequest)
async def terminate(call: HttpCall) -> web.StreamResponse:
    """Withdraw a running approval."""
    asked, known = await _asked(call, TerminationRequest)
    known_since = known.known_since if known else None
    generation = call.context.settings.approval_api
    return await _do(
        call,
        "terminate",
        asked.user,
        asked.job(call.path("instance"), generation, known_since=known_since),
    )


@_changes("comment", CommentRequest)
async def comment(call: HttpCall) -> web.StreamResponse:
    """Add a comment to an approval."""
    asked, _ = await _asked(call, CommentRequest)
    return await _do(call, "comment", asked.user, asked.job(call.path("instance")))


def _deciding(decision: Decision, what: str) -> None:
    """Declare the route that agrees, or that refuses."""

    @_changes(decision, VerdictRequest, summary=what)
    async def handle(call: HttpCall) -> web.StreamResponse:
        asked, _ = await _asked(call, VerdictRequest)
        return await _do(call, decision, asked.user, asked.job(call.path("instance"), decision))


_deciding("agree", "Agree to an approval")
_deciding("refuse", "Refuse an approval")


async def _asked(call: HttpCall, action: type[_Action]) -> tuple[_Action, ApprovalStatus | None]:
    """The action of a body with its sender, and what is known of its approval."""
    asked = action.parse(call.body, strict=True)
    known = await _seen(call, asked.app)
    sender = asked.sender or call.context.sender_of(call.key)
    return asked.model_copy(update={"sender": sender}), known


async def _do(call: HttpCall, action: str, user: str | None, job: Contract) -> web.StreamResponse:
    """Accept the job of an action in a person's name, which the audit has first."""
    check_asked(job, call.key, call.context.sender_of(call.key))
    after = {"user": user} if user else None
    await call.context.service(AuditService).note(
        action, "approval", [call.path("instance")], app=job.app, after=after
    )
    status = await accept(call, job, once=call.once)
    return await waited(call, status, pending=202)


async def _found(call: HttpCall, app: str) -> ApprovalStatus:
    """An approval that is followed, and that the key may see.

    Raises:
        ApprovalNotFound: there is none, or the key may not see it; the answer does not reveal which.
    """
    instance = call.path("instance")
    status = await call.context.service(ApprovalService).get(app, instance)
    if status is None or not may_see(call.key, sender=status.sender, app=app):
        raise ApprovalNotFound(instance)
    return status


async def _seen(call: HttpCall, app: str) -> ApprovalStatus | None:
    """The approval that a request changes; None if it is not followed.

    Raises:
        ApprovalNotFound: it is not followed, and the key has a sender of its own: it may be
            another sender's.
    """
    check_app(call.key, app)
    if call.key.sender != ANY:
        return await _found(call, app)
    return await call.context.service(ApprovalService).get(app, call.path("instance"))
