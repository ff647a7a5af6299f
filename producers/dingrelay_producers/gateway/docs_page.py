"""``/openapi.json``."""

from aiohttp import web

from dingrelay_producers.gateway.routes import Answer, ApiCall, Route

DOCUMENT: web.AppKey[bytes] = web.AppKey("openapi", bytes)


async def show_document(call: ApiCall) -> web.StreamResponse:
    """The OpenAPI document of this gateway."""
    return web.Response(
        body=call.request.app[DOCUMENT], headers={"Content-Type": "application/json"}
    )


ROUTES = (
    Route(
        method="GET",
        path="/openapi.json",
        handler=show_document,
        operation="getOpenApi",
        summary="This document",
        tag="operation",
        answers={200: Answer(description="OpenAPI 3.1.", model={"type": "object"})},
    ),
)
