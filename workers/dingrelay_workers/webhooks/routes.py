"""The routes of webhooks."""

from functools import partial

from pydantic import BaseModel

from dingrelay_workers.http.routes import Answer, Body, Handler, Route, links
from dingrelay_workers.webhooks import handlers
from dingrelay_workers.webhooks.handlers import (
    EndpointDocument,
    EndpointList,
    EndpointStatusDocument,
    IssuedEndpointDocument,
    ReplayDocument,
    TestDocument,
    TestWait,
)
from dingrelay_workers.webhooks.request import (
    EndpointRequest,
    ReplayRequest,
    ResumeRequest,
    SecretRotation,
)

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
    answers: dict[int, Answer],
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


_ENDPOINT = {200: Answer(description="The endpoint.", model=EndpointDocument)}

ROUTES = (
    _route(
        method="POST",
        path="/v1/webhooks",
        handler=handlers.add_webhook,
        operation="addWebhook",
        summary="Add an endpoint that receives notices",
        description="It receives no more than the key may read itself. The secret is shown once.",
        scope="webhooks:write",
        body=Body(model=EndpointRequest),
        answers={
            201: Answer(
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
        handler=handlers.list_webhooks,
        operation="listWebhooks",
        summary="List the endpoints of webhooks",
        description="Only endpoints that receive no more than the key may read.",
        scope="webhooks:read",
        answers={200: Answer(description="The endpoints.", model=EndpointList)},
    ),
    _of_one(
        method="GET",
        path="/v1/webhooks/{id}",
        handler=handlers.get_webhook,
        operation="getWebhook",
        summary="Show an endpoint and its health",
        scope="webhooks:read",
        answers={200: Answer(description="The endpoint.", model=EndpointStatusDocument)},
        problems=frozenset({404}),
    ),
    _of_one(
        method="DELETE",
        path="/v1/webhooks/{id}",
        handler=handlers.remove_webhook,
        operation="removeWebhook",
        summary="Remove an endpoint",
        scope="webhooks:write",
        answers={204: Answer(description="The endpoint is removed.")},
        problems=frozenset({404}),
    ),
    _action(
        "pause",
        handlers.pause_webhook,
        "Stop deliveries to an endpoint for now",
        _ENDPOINT,
        conflicts=True,
    ),
    _action(
        "resume",
        handlers.resume_webhook,
        "Resume deliveries to an endpoint, including the notices of the meantime",
        _ENDPOINT,
        body=ResumeRequest,
    ),
    _action(
        "rotate",
        handlers.rotate_webhook,
        "Give an endpoint a new secret",
        {
            200: Answer(
                description="The endpoint, with its secret.",
                model=IssuedEndpointDocument,
                secret=True,
            )
        },
        body=SecretRotation,
    ),
    _action(
        "replay",
        handlers.replay_webhook,
        "Deliver the notices since a moment again",
        {202: Answer(description="The notices will be delivered.", model=ReplayDocument)},
        body=ReplayRequest,
        required=True,
        conflicts=True,
    ),
    _action(
        "test",
        handlers.test_webhook,
        "Send a test notice to an endpoint",
        {
            200: Answer(description="The result of the test.", model=TestDocument),
            202: Answer(description="No worker has sent it yet.", model=TestDocument),
        },
        query=TestWait,
    ),
)
