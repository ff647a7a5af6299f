"""``/v1/webhooks``: endpoints over HTTP. An endpoint receives no more than its key may read."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.errors import EndpointNotFound
from dingrelay_producers.settings import SettingsError
from dingrelay_tasks import notice_types
from dingrelay_workers.http import problems
from dingrelay_workers.http.api_keys import ANY, ApiKey
from dingrelay_workers.http.problems import Problem, json_response
from dingrelay_workers.http.routes import Body, Handler, HttpCall, Route, RouteAnswer, links
from dingrelay_workers.outbox.notice import Subscription
from dingrelay_workers.webhooks.documents import (
    EndpointDocument,
    EndpointList,
    EndpointRequest,
    EndpointStatus,
    IssuedEndpointDocument,
    ReplayDocument,
    ReplayRequest,
    ResumeRequest,
    SecretRotation,
    TestDocument,
    TestWait,
)
from dingrelay_workers.webhooks.service import WebhookService

PENDING: dict[str, Any] = {
    "verdict": "pending",
    "code": "pending",
    "reason": "no worker has sent it yet; is there one that serves webhooks?",
    "status": 0,
}

NEEDS: Mapping[str, tuple[str, ...]] = {
    "job": ("jobs:read",),
    "campaign": ("campaigns:read",),
    "approval": ("approvals:read",),
    "directory": ("directory:read",),
    # DingTalk's own events hold people, departments and approvals.
    "dingtalk": ("directory:read", "approvals:read"),
}
"""Family of types → the scopes that a key needs for it."""

OF_THE_DIRECTORY = ("dingtalk.user_", "dingtalk.org_")
"""DingTalk's events that hold no more than the directory, which a key with any sender may read. Others
have no sender, so they would show a key the approvals of all."""


async def add_webhook(call: HttpCall) -> web.StreamResponse:
    """Add an endpoint."""
    wanted = EndpointRequest.parse(call.body, strict=True).subscription()
    narrowed = _narrowed(wanted, call.key)
    try:
        made = await _service(call).add(narrowed, once=call.once)
    except SettingsError as error:
        raise problems.unavailable(str(error)) from None
    headers = {"Location": f"/v1/webhooks/{made.endpoint.id}"}
    return _answer(IssuedEndpointDocument.of(made), status=201, headers=headers)


async def list_webhooks(call: HttpCall) -> web.StreamResponse:
    """All endpoints that the caller could have added."""
    found = await _service(call).list()
    ours = [each for each in found if _may_see(call.key, each)]
    return _answer(EndpointList.model_validate({"webhooks": ours}))


async def get_webhook(call: HttpCall) -> web.StreamResponse:
    """One endpoint, and how it does."""
    return _answer(await _found(call))


async def pause_webhook(call: HttpCall) -> web.StreamResponse:
    """Pause an endpoint."""
    paused = await _service(call).pause((await _found(call)).id)
    return _answer(EndpointDocument.model_validate(paused))


async def resume_webhook(call: HttpCall) -> web.StreamResponse:
    """Resume an endpoint."""
    skip = ResumeRequest.parse(call.body, strict=True).skip
    resumed = await _service(call).resume((await _found(call)).id, skip=skip)
    return _answer(EndpointDocument.model_validate(resumed))


async def rotate_webhook(call: HttpCall) -> web.StreamResponse:
    """Give an endpoint a new secret."""
    overlap = SecretRotation.parse(call.body, strict=True).length()
    endpoint = await _found(call)
    try:
        made = await _service(call).rotate(endpoint.id, overlap=overlap)
    except SettingsError as error:
        raise problems.unavailable(str(error)) from None
    return _answer(IssuedEndpointDocument.of(made))


async def replay_webhook(call: HttpCall) -> web.StreamResponse:
    """Replay the notices since a moment to an endpoint."""
    since = ReplayRequest.parse(call.body, strict=True).since
    count = await _service(call).replay((await _found(call)).id, since=since)
    return json_response({"notices": count}, status=202)


async def test_webhook(call: HttpCall) -> web.StreamResponse:
    """Send a test notice to an endpoint, and report the outcome."""
    asked: TestWait = call.query
    answer = await _service(call).test((await _found(call)).id, within=asked.wait)
    return json_response(PENDING, status=202) if answer is None else json_response(answer)


async def remove_webhook(call: HttpCall) -> web.StreamResponse:
    """Forget an endpoint."""
    await _service(call).remove((await _found(call)).id)
    return web.Response(status=204)


def _service(call: HttpCall) -> WebhookService:
    return call.context.service(WebhookService)


def _answer(
    document: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return json_response(document.model_dump(mode="json"), status=status, headers=headers)


async def _found(call: HttpCall) -> EndpointStatus:
    """The endpoint that the path names.

    Raises:
        EndpointNotFound: there is none, or its notices hold what the caller may not read; the
            answer does not reveal which.
    """
    endpoint = call.path("id")
    found = await _service(call).get(endpoint)
    if not _may_see(call.key, found.endpoint):
        raise EndpointNotFound(endpoint)
    return found


def _narrowed(wanted: Subscription, key: ApiKey) -> Subscription:
    """What a key asks for, with its own apps and sender where it names none.

    Raises:
        Problem: it asks for more than it holds (403); the field is named.
    """
    if not wanted.apps and ANY not in key.apps:
        wanted = replace(wanted, apps=key.apps)
    if not wanted.senders and key.sender != ANY:
        wanted = replace(wanted, senders=frozenset({key.sender}))
    if excess := _excess(wanted, key):
        field, problem = excess
        raise Problem.at(problems.FORBIDDEN, f"/{field}", problem)
    return wanted


def _may_see(key: ApiKey, endpoint: Subscription) -> bool:
    """Whether a key sees and changes an endpoint: one that it could have asked for."""
    return _excess(endpoint, key) is None


def _excess(wanted: Subscription, key: ApiKey) -> tuple[str, str] | None:
    if wanted.url.startswith("celery:") and ANY not in key.scopes:
        return "url", "only a key with the scope * may have tasks published"
    for pattern in wanted.types:
        families = list(NEEDS.values()) if pattern == ANY else [NEEDS[pattern.partition(".")[0]]]
        for scope in chain.from_iterable(families):
            if not key.permits(scope):
                return "types", f"{pattern} needs the scope {scope}"
        of_all = pattern == ANY or pattern.startswith(notice_types.DINGTALK)
        if key.sender != ANY and of_all and not pattern.startswith(OF_THE_DIRECTORY):
            return "types", f"{pattern} needs a key whose sender is *"
    if ANY not in key.apps and not (wanted.apps and wanted.apps <= key.apps):
        return "apps", "the key is not for these apps"
    if key.sender != ANY and wanted.senders != frozenset({key.sender}):
        return "senders", "the key has a sender of its own"
    return None


_ID = {"id": {"type": "string", "pattern": "^drw_[a-z0-9]{12}$"}}
_LINKS = links(
    "getWebhook",
    "pauseWebhook",
    "resumeWebhook",
    "rotateWebhook",
    "testWebhook",
    "removeWebhook",
)

_route = partial(Route, tag="webhooks")
_of_one = partial(_route, path_parameters=_ID)


def _action(
    verb: str,
    handler: Handler,
    summary: str,
    answers: dict[int, RouteAnswer],
    *,
    body: type[BaseModel] | None = None,
    required: bool = False,
    query: type[BaseModel] | None = None,
    conflicts: bool = False,
) -> Route:
    return _of_one(
        method="POST",
        path=f"/v1/webhooks/{{id}}/{verb}",
        handler=handler,
        operation=f"{verb}Webhook",
        summary=summary,
        scope="webhooks:write",
        body=Body(model=body, required=required) if body else None,
        query=query,
        answers=answers,
        problems=frozenset({404, 409}) if conflicts else frozenset({404}),
    )


_ENDPOINT = {200: RouteAnswer(description="The endpoint.", model=EndpointDocument)}

ROUTES = (
    _route(
        method="POST",
        path="/v1/webhooks",
        handler=add_webhook,
        operation="addWebhook",
        summary="Add an endpoint that receives notices",
        description="It receives no more than the key may read itself. The secret is shown once.",
        scope="webhooks:write",
        body=Body(model=EndpointRequest),
        answers={
            201: RouteAnswer(
                description="The endpoint, with its secret.",
                model=IssuedEndpointDocument,
                secret=True,
                headers={"Location": "The URL of the endpoint."},
            )
        },
        links={201: _LINKS},
    ),
    _route(
        method="GET",
        path="/v1/webhooks",
        handler=list_webhooks,
        operation="listWebhooks",
        summary="List the endpoints of webhooks",
        description="Only endpoints that receive no more than the key may read.",
        scope="webhooks:read",
        answers={200: RouteAnswer(description="The endpoints.", model=EndpointList)},
    ),
    _of_one(
        method="GET",
        path="/v1/webhooks/{id}",
        handler=get_webhook,
        operation="getWebhook",
        summary="Show an endpoint and its health",
        scope="webhooks:read",
        answers={200: RouteAnswer(description="The endpoint.", model=EndpointStatus)},
        problems=frozenset({404}),
    ),
    _of_one(
        method="DELETE",
        path="/v1/webhooks/{id}",
        handler=remove_webhook,
        operation="removeWebhook",
        summary="Remove an endpoint",
        scope="webhooks:write",
        answers={204: RouteAnswer(description="The endpoint is removed.")},
        problems=frozenset({404}),
    ),
    _action(
        "pause",
        pause_webhook,
        "Stop deliveries to an endpoint for now",
        _ENDPOINT,
        conflicts=True,
    ),
    _action(
        "resume",
        resume_webhook,
        "Resume deliveries to an endpoint, including the notices of the meantime",
        _ENDPOINT,
        body=ResumeRequest,
    ),
    _action(
        "rotate",
        rotate_webhook,
        "Give an endpoint a new secret",
        {
            200: RouteAnswer(
                description="The endpoint, with its secret.",
                model=IssuedEndpointDocument,
                secret=True,
            )
        },
        body=SecretRotation,
    ),
    _action(
        "replay",
        replay_webhook,
        "Deliver the notices since a moment again",
        {202: RouteAnswer(description="The notices will be delivered.", model=ReplayDocument)},
        body=ReplayRequest,
        required=True,
        conflicts=True,
    ),
    _action(
        "test",
        test_webhook,
        "Send a test notice to an endpoint",
        {
            200: RouteAnswer(description="The result of the test.", model=TestDocument),
            202: RouteAnswer(description="No worker has sent it yet.", model=TestDocument),
        },
        query=TestWait,
    ),
)
