"""What became of approvals, from SQL; what is done to them, as jobs."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from dingrelay_producers.client.approval_backend import ApprovalStatus
from dingrelay_producers.client.filters import ApprovalFilter
from dingrelay_producers.errors import ApprovalNotFound
from dingrelay_tasks.approval_actions import Comment, Termination
from dingrelay_tasks.approval_decide import ApprovalDecide, Decision
from dingrelay_tasks.contract import Contract, Document
from dingrelay_workers.approvals.backend import ApprovalPages
from dingrelay_workers.approvals.documents import (
    ApprovalDocument,
    ApprovalFilterQuery,
    ApprovalPage,
    CommentRequest,
    TerminationRequest,
    VerdictRequest,
    position,
)
from dingrelay_workers.http import paging, problems
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.job_routes import accept, waited
from dingrelay_workers.http.permissions import check_asked, may_see
from dingrelay_workers.http.problems import Problem, json_response
from dingrelay_workers.http.routes import ApiCall, Handler


async def list_approvals(call: ApiCall) -> web.StreamResponse:
    """The approvals that the key may see, the latest first."""
    asked: ApprovalFilterQuery = call.query
    chosen = ApprovalFilter(
        apps=_apps(call.key, asked.app),
        state=asked.state,
        template=asked.template,
        originator=asked.originator,
        waits_for=asked.waits_for,
        sender=None if call.key.sender == ANY else call.key.sender,
        before=position(asked.cursor) if asked.cursor else None,
    )
    found = await call.context.service(ApprovalPages).list(chosen, limit=asked.limit)
    page = ApprovalPage(
        approvals=[ApprovalDocument.model_validate(status) for status in found.approvals],
        next=found.next and paging.encode(*found.next),
    )
    return json_response(page.model_dump(mode="json"))


async def get_approval(call: ApiCall) -> web.StreamResponse:
    """One approval."""
    status = await _found(call, call.query.app)
    return json_response(ApprovalDocument.model_validate(status).model_dump(mode="json"))


async def terminate(call: ApiCall) -> web.StreamResponse:
    """Withdraw an approval that runs."""
    asked = TerminationRequest.parse(call.body, strict=True)
    known = await _seen(call, asked.app)
    action = Termination(**_fields(call, asked))
    generation = call.context.settings.approval_api
    return await _do(call, action.job(generation, known_since=known.known_since if known else None))


async def comment(call: ApiCall) -> web.StreamResponse:
    """Say something to an approval."""
    asked = CommentRequest.parse(call.body, strict=True)
    await _seen(call, asked.app)
    return await _do(call, Comment(**_fields(call, asked)).job())


def deciding(decision: Decision) -> Handler:
    """The handler that agrees, or that refuses."""

    async def handle(call: ApiCall) -> web.StreamResponse:
        asked = VerdictRequest.parse(call.body, strict=True)
        await _seen(call, asked.app)
        return await _do(call, ApprovalDecide(decision=decision, **_fields(call, asked)))

    return handle


async def _do(call: ApiCall, job: Contract) -> web.StreamResponse:
    check_asked(job, call.key, call.context.sender_of(call.key))
    status = await accept(call, job, once=call.once)
    return await waited(call, status, pending=202)


def _fields(call: ApiCall, asked: Document) -> Mapping[str, Any]:
    given = asked.model_dump()
    sender = given["sender"] or call.context.sender_of(call.key)
    return {**given, "instance": call.path("instance"), "sender": sender}


async def _found(call: ApiCall, app: str) -> ApprovalStatus:
    """An approval that is followed, and that the key may see.

    Raises:
        ApprovalNotFound: there is none, or the key may not see it; the answer does not reveal which.
    """
    instance = call.path("instance")
    status = await call.context.service(ApprovalPages).get(app, instance)
    if status is None or not may_see(call.key, sender=status.sender, app=app):
        raise ApprovalNotFound(instance)
    return status


async def _seen(call: ApiCall, app: str) -> ApprovalStatus | None:
    """The approval that a request changes; None if it is not followed.

    Raises:
        ApprovalNotFound: it is not followed, and the key has a sender of its own: it may be
            another sender's.
    """
    if not call.key.permits_app(app):
        raise Problem.at(problems.FORBIDDEN, "/app", "the key is not for this app")
    if call.key.sender != ANY:
        return await _found(call, app)
    return await call.context.service(ApprovalPages).get(app, call.path("instance"))


def _apps(key: ApiKey, app: str | None) -> frozenset[str] | None:
    """The apps of a list: the requested one, or those of the key; None for any."""
    if app is None:
        return None if ANY in key.apps else key.apps
    if not key.permits_app(app):
        raise Problem.at(problems.FORBIDDEN, "?app", "the key is not for this app")
    return frozenset({app})
