"""``/v1/webhooks``: endpoints over HTTP. An endpoint receives no more than its key may read."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, Field

from dingrelay_producers.client.filters import DeliveryStateName
from dingrelay_producers.errors import EndpointNotFound
from dingrelay_producers.settings import SettingsError
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import paging, problems
from dingrelay_workers.http.api_keys import ANY, ApiKey, Grant
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import Body, HttpCall, RouteAnswer, Routes, links
from dingrelay_workers.keys.documents import RotationRequest
from dingrelay_workers.outbox import notice_types
from dingrelay_workers.outbox.notice import Subscription
from dingrelay_workers.webhooks.documents import (
    DeliveryDocument,
    EndpointRequest,
    EndpointStatus,
    IssuedEndpoint,
    ResumedEndpoint,
    ResumeRequest,
)
from dingrelay_workers.webhooks.endpoints import Endpoint
from dingrelay_workers.webhooks.service import WebhookService

ROUTES = Routes(tag="webhooks")
_one = partial(
    ROUTES,
    path_parameters={"id": {"type": "string", "pattern": "^drw_[a-z0-9]{12}$"}},
    problems=frozenset({404}),
)
_change = partial(_one, scope="webhooks:write")
_CONFLICTS = frozenset({404, 409})
_SECRET = RouteAnswer(
    description="The endpoint, with its secret.", model=IssuedEndpoint, secret=True
)


@ROUTES(
    "POST /v1/webhooks",
    {201: replace(_SECRET, headers={"Location": "The URL of the endpoint."})},
    scope="webhooks:write",
    body=Body(model=EndpointRequest),
    links={
        201: links(
            "getWebhook",
            "pauseWebhook",
            "resumeWebhook",
            "rotateWebhook",
            "testWebhook",
            "removeWebhook",
        )
    },
)
async def add_webhook(call: HttpCall) -> IssuedEndpoint:
    """Add an endpoint that receives notices.

    It receives no more than the key may read itself. The secret is shown once.
    """
    wanted = EndpointRequest.parse(call.body, strict=True).subscription()
    narrowed = _narrowed(wanted, call.key)
    try:
        made = await _service(call).add(narrowed, once=call.once)
    except SettingsError as error:
        raise problems.unavailable(str(error)) from None
    call.headers["Location"] = f"/v1/webhooks/{made.id}"
    return made


EndpointList = paging.page_of("EndpointList", "Endpoints, the newest first.", webhooks=Endpoint)


@ROUTES("GET /v1/webhooks", EndpointList, scope="webhooks:read")
async def list_webhooks(call: HttpCall) -> BaseModel:
    """List the endpoints of webhooks.

    Only endpoints that receive no more than the key may read.
    """
    found = await _service(call).list()
    return EndpointList(webhooks=[each for each in found if may_see_endpoint(call.key, each)])


@_one("GET /v1/webhooks/{id}", EndpointStatus, scope="webhooks:read")
async def get_webhook(call: HttpCall) -> EndpointStatus:
    """Show an endpoint and its health."""
    return await _service(call).get((await _found(call)).id)


DeliveryPage = paging.page_of(
    "DeliveryPage", "Some deliveries, of the latest notices first.", deliveries=DeliveryDocument
)


class DeliveryPaging(paging.Paging):
    """Page of a list of deliveries."""

    state: DeliveryStateName | None = None
    """Only deliveries in this state."""
    cursor: Annotated[Any, paging.Behind(int)] = None


@_one(
    "GET /v1/webhooks/{id}/deliveries",
    DeliveryPage,
    scope="webhooks:read",
    query=DeliveryPaging,
)
async def list_deliveries_of_webhook(call: HttpCall) -> BaseModel:
    """The deliveries to an endpoint one by one, of the latest notices first.

    Kept for 7 days.
    """
    asked: DeliveryPaging = call.query
    found = await _service(call).deliveries(
        (await _found(call)).id,
        state=asked.state,
        behind=asked.cursor and asked.cursor[0],
        limit=asked.limit,
    )
    return DeliveryPage(deliveries=list(found), next=paging.behind(found, asked.limit, "number"))


@_change("DELETE /v1/webhooks/{id}", {204: RouteAnswer(description="The endpoint is removed.")})
async def remove_webhook(call: HttpCall) -> None:
    """Remove an endpoint."""
    await _service(call).remove((await _found(call)).id)


@_change("POST /v1/webhooks/{id}/pause", Endpoint, problems=_CONFLICTS)
async def pause_webhook(call: HttpCall) -> Endpoint:
    """Stop deliveries to an endpoint for now."""
    return await _service(call).pause((await _found(call)).id)


@_change(
    "POST /v1/webhooks/{id}/resume",
    ResumedEndpoint,
    body=Body(model=ResumeRequest, required=False),
    problems=_CONFLICTS,
)
async def resume_webhook(call: HttpCall) -> ResumedEndpoint:
    """Resume deliveries to an endpoint, including the notices of the meantime, and deliver others again."""
    asked = ResumeRequest.parse(call.body, strict=True)
    return await _service(call).resume((await _found(call)).id, **dict(asked))


@_change("POST /v1/webhooks/{id}/rotate", _SECRET, body=Body(model=RotationRequest, required=False))
async def rotate_webhook(call: HttpCall) -> IssuedEndpoint:
    """Give an endpoint a new secret."""
    overlap = RotationRequest.parse(call.body, strict=True).length()
    endpoint = await _found(call)
    try:
        made = await _service(call).rotate(endpoint.id, overlap=overlap)
    except SettingsError as error:
        raise problems.unavailable(str(error)) from None
    return made


class TestWait(paging.Query):
    """The query of a test."""

    wait: Annotated[int, Field(ge=1, le=20)] = 20
    """Seconds to wait for the answer."""


@_change(
    "POST /v1/webhooks/{id}/test",
    {
        200: RouteAnswer(description="The result of the test.", model=DeliveryDocument),
        202: RouteAnswer(description="No worker has sent it yet.", model=DeliveryDocument),
    },
    query=TestWait,
)
async def test_webhook(call: HttpCall) -> DeliveryDocument:
    """Send a test notice to an endpoint."""
    asked: TestWait = call.query
    answer = await _service(call).test(
        (await _found(call)).id, within=asked.wait, stopping=call.context.stopping
    )
    call.status = 200 if answer.state == "tested" else 202
    return answer


def _service(call: HttpCall) -> WebhookService:
    return call.context.service(WebhookService)


async def _found(call: HttpCall) -> Endpoint:
    """The endpoint that the path names.

    Raises:
        EndpointNotFound: there is none, or its notices hold what the caller may not read; the
            answer does not reveal which.
    """
    endpoint = call.path("id")
    found = await _service(call).find(endpoint)
    if not may_see_endpoint(call.key, found):
        raise EndpointNotFound(endpoint)
    return found


def _narrowed(wanted: Subscription, key: ApiKey) -> Subscription:
    """The subscription of a key's request, with the key's own apps and sender where it names none.

    Raises:
        Problem: it asks for more than it holds (403); the field is named.
    """
    if not wanted.apps and ANY not in key.apps:
        wanted = wanted.model_copy(update={"apps": key.apps})
    if not wanted.senders and key.sender != ANY:
        wanted = wanted.model_copy(update={"senders": frozenset({key.sender})})
    if excess := _excess(wanted, key):
        field, problem = excess
        raise Problem.at(problems.FORBIDDEN, f"/{field}", problem)
    return wanted


def may_see_endpoint(key: Grant, endpoint: Subscription) -> bool:
    """Whether a key sees and changes an endpoint: one that it could have asked for."""
    return _excess(endpoint, key) is None


def _excess(wanted: Subscription, key: Grant) -> tuple[str, str] | None:
    if wanted.url.startswith("celery:") and ANY not in key.scopes:
        return "url", en("only a key with the scope * may have tasks published")
    for pattern in wanted.types:
        for family in notice_types.families(pattern):
            scopes = family.scopes if family else (ANY,)
            for scope in scopes:
                if not key.permits(scope):
                    return "types", en("{} needs the scope {}", pattern, scope)
            narrowed = family and (family.has_sender or pattern.startswith(family.shared))
            if key.sender != ANY and not narrowed:
                return "types", en("{} needs a key whose sender is *", pattern)
    if ANY not in key.apps and not (wanted.apps and all(map(key.permits_name, wanted.apps))):
        return "apps", en("the key is not for these apps")
    if key.sender != ANY and wanted.senders != frozenset({key.sender}):
        return "senders", en("the key has a sender of its own")
    return None
