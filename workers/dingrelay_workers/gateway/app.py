"""The gateway as an aiohttp application."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from dingrelay_workers.approvals import routes as approval_routes
from dingrelay_workers.campaigns import routes as campaign_routes
from dingrelay_workers.directory import routes as directory
from dingrelay_workers.gateway import callbacks, docs, health, jobs, openapi
from dingrelay_workers.gateway.docs import DOCUMENT
from dingrelay_workers.gateway.drop_in.door import drop_in_beside
from dingrelay_workers.http import job_routes
from dingrelay_workers.http.dispatch import handler_of
from dingrelay_workers.http.edge import edge, sign
from dingrelay_workers.http.routes import CONTEXT, GatewayContext, Route
from dingrelay_workers.keys import routes as keys
from dingrelay_workers.webhooks import routes as webhook_routes

ROUTES: tuple[Route, ...] = (
    *job_routes.ROUTES,
    *jobs.ROUTES,
    *approval_routes.ROUTES,
    *campaign_routes.ROUTES,
    *directory.ROUTES,
    *keys.ROUTES,
    *webhook_routes.ROUTES,
    *callbacks.ROUTES,
    *docs.ROUTES,
    *health.ROUTES,
)
"""Every route of the gateway. The router and the OpenAPI document are both built from this."""


def create_app(context: GatewayContext, routes: Sequence[Route] = ROUTES) -> web.Application:
    """The application around a context, which the caller opens and closes."""
    # Bodies are read by `body_reader`, which has limits of its own.
    ours = {route.path.split("/")[1] for route in routes}
    app = web.Application(middlewares=[edge, drop_in_beside(ours)], client_max_size=0)
    app[CONTEXT] = context
    app[DOCUMENT] = openapi.document(routes)
    app.on_response_prepare.append(sign)
    for route in routes:
        for method in route.methods:
            app.router.add_route(method, route.path, handler_of(route), expect_handler=_expected)
    for path in dict.fromkeys(route.path for route in routes if "{" not in route.path):
        allowed = [method for route in routes if route.path == path for method in route.methods]
        app.router.add_route("*", path, _other_method(allowed))
    return app


def _other_method(allowed: Sequence[str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Refuses a method that a path has not, where a template that fits the path, too, has it."""

    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, allowed)

    return refuse


async def _expected(request: web.Request) -> web.StreamResponse | None:
    """Answer ``Expect: 100-continue``; other expectations are ignored."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return None
