"""The routes of approvals that exist; `createApproval` is one of those that make jobs."""

from pydantic import BaseModel

from dingrelay_workers.approvals import handlers
from dingrelay_workers.approvals.documents import (
    ApprovalDocument,
    ApprovalFilterQuery,
    ApprovalPage,
    CommentRequest,
    OneApproval,
    TerminationRequest,
    VerdictRequest,
)
from dingrelay_workers.http.job_routes import makes_job
from dingrelay_workers.http.routes import Answer, Body, Handler, Route

# No slash or backslash: in a path they are refused however they are spelled (`http/edge.py`).
_INSTANCE = {"type": "string", "pattern": "^[\\x21-\\x2e\\x30-\\x5b\\x5d-\\x7e]{1,128}$"}


def _action(verb: str, handler: Handler, body: type[BaseModel], what: str) -> Route:
    return makes_job(
        path=f"/v1/approvals/{{instance}}/{verb}",
        handler=handler,
        operation=f"{verb}Approval",
        summary=what,
        tag="approvals",
        scope="approvals:write",
        body=Body(model=body),
        problems=frozenset({403, 404, 409, 422, 429, 503}),
        path_parameters={"instance": _INSTANCE},
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/approvals",
        handler=handlers.list_approvals,
        operation="listApprovals",
        summary="List approvals and their states",
        tag="approvals",
        scope="approvals:read",
        query=ApprovalFilterQuery,
        answers={200: Answer(description="A page of approvals.", model=ApprovalPage)},
        problems=frozenset({403, 503}),
    ),
    Route(
        method="GET",
        path="/v1/approvals/{instance}",
        handler=handlers.get_approval,
        operation="getApproval",
        summary="Show an approval and its state",
        tag="approvals",
        scope="approvals:read",
        query=OneApproval,
        answers={200: Answer(description="The approval.", model=ApprovalDocument)},
        problems=frozenset({404, 503}),
        path_parameters={"instance": _INSTANCE},
    ),
    _action("terminate", handlers.terminate, TerminationRequest, "Withdraw a running approval"),
    _action("agree", handlers.deciding("agree"), VerdictRequest, "Agree to an approval"),
    _action("refuse", handlers.deciding("refuse"), VerdictRequest, "Refuse an approval"),
    _action("comment", handlers.comment, CommentRequest, "Add a comment to an approval"),
)
