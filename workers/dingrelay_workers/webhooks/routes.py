"""``/v1/webhooks``: endpoints over HTTP. An endpoint receives no more than its key may read."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from dingrelay_producers.client.filters import DeliveryStateName
from dingrelay_workers.http import paging
from dingrelay_workers.http.routes import HttpCall, RouteAnswer, Routes
from dingrelay_workers.http.verb_routes import VerbRoutes
from dingrelay_workers.webhooks.documents import DeliveryDocument, EndpointStatus, IssuedEndpoint
from dingrelay_workers.webhooks.endpoints import Endpoint
from dingrelay_workers.webhooks.service import WebhookService

ROUTES = Routes(tag="webhooks")
_ID = {"id": {"type": "string", "pattern": "^drw_[a-z0-9]{12}$"}}

EndpointList = paging.page_of("EndpointList", "Endpoints, the newest first.", webhooks=Endpoint)


@ROUTES("GET /v1/webhooks", EndpointList, scope="webhooks:read")
async def list_webhooks(call: HttpCall) -> BaseModel:
    """List the endpoints of webhooks.

    Only endpoints that receive no more than the key may read.
    """
    return EndpointList(webhooks=await call.context.service(WebhookService).list())


@ROUTES("GET /v1/webhooks/{id}", EndpointStatus, scope="webhooks:read", path_parameters=_ID)
async def get_webhook(call: HttpCall) -> EndpointStatus:
    """Show an endpoint and its health."""
    return await call.context.service(WebhookService).get(call.path("id"))


DeliveryPage = paging.page_of(
    "DeliveryPage", "Some deliveries, of the latest notices first.", deliveries=DeliveryDocument
)


class DeliveryPaging(paging.Paging):
    """Page of a list of deliveries."""

    state: DeliveryStateName | None = None
    """Only deliveries in this state."""
    cursor: Annotated[Any, paging.Behind(int)] = None


@ROUTES(
    "GET /v1/webhooks/{id}/deliveries",
    DeliveryPage,
    scope="webhooks:read",
    query=DeliveryPaging,
    path_parameters=_ID,
)
async def list_deliveries_of_webhook(call: HttpCall) -> BaseModel:
    """The deliveries to an endpoint one by one, of the latest notices first.

    Kept for 7 days.
    """
    query: DeliveryPaging = call.query
    deliveries = await call.context.service(WebhookService).deliveries(
        call.path("id"),
        state=query.state,
        behind=query.cursor and query.cursor[0],
        limit=query.limit,
    )
    following = paging.behind(deliveries, query.limit, "number")
    return DeliveryPage(deliveries=list(deliveries), next=following)


class TestWait(paging.Query):
    """The query of a test."""

    wait: Annotated[int, Field(ge=1, le=20)] = 20
    """Seconds to wait for the answer."""


@ROUTES(
    "POST /v1/webhooks/{id}/test",
    {
        200: RouteAnswer(description="The result of the test.", model=DeliveryDocument),
        202: RouteAnswer(description="No worker has sent it yet.", model=DeliveryDocument),
    },
    scope="webhooks:write",
    query=TestWait,
    path_parameters=_ID,
)
async def test_webhook(call: HttpCall) -> DeliveryDocument:
    """Send a test notice to an endpoint."""
    answer = await call.context.service(WebhookService).test(
        call.path("id"), within=call.query.wait, stopping=call.context.stopping
    )
    call.status = 200 if answer.state == "tested" else 202
    return answer


VerbRoutes(
    WebhookService,
    {
        IssuedEndpoint: RouteAnswer(
            description="The endpoint, with its secret.", model=IssuedEndpoint, secret=True
        )
    },
    fields={"path_parameters": _ID},
).declare(ROUTES)
