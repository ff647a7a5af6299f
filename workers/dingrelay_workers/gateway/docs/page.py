"""``/openapi.json`` and ``/docs``."""

from importlib import resources
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from dingrelay_workers.gateway.docs import html
from dingrelay_workers.http.routes import Answer, ApiCall, Route

DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("openapi", dict[str, Any])

POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


class Language(BaseModel, extra="forbid"):
    """In which language to read."""

    lang: Literal["en", "zh"] | None = None
    """As the browser prefers, if not given."""


async def show_document(call: ApiCall) -> web.StreamResponse:
    """The OpenAPI document of this gateway."""
    return web.json_response(call.request.app[DOCUMENT])


async def show_docs(call: ApiCall) -> web.StreamResponse:
    """The document as a page."""
    preferred = call.request.headers.get("Accept-Language", "").lower()
    asked: Language = call.query
    language = asked.lang or ("zh" if preferred.startswith("zh") else "en")
    document = call.request.app[DOCUMENT]
    return web.Response(
        text=html.page(document, language),
        content_type="text/html",
        headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"},
    )


async def show_style(call: ApiCall) -> web.StreamResponse:
    """The page's style sheet."""
    file = resources.files("dingrelay_workers.gateway.docs").joinpath("static", "docs.css")
    return web.Response(text=file.read_text("utf-8"), content_type="text/css")


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
    Route(
        method="GET",
        path="/docs",
        handler=show_docs,
        operation="showDocs",
        summary="This document as a page",
        tag="operation",
        query=Language,
        answers={
            200: Answer(description="The page.", model={"type": "string"}, media_type="text/html")
        },
    ),
    Route(
        method="GET",
        path=html.STYLE,
        handler=show_style,
        operation="getDocsStyle",
        summary="The page's style sheet",
        tag="operation",
        answers={
            200: Answer(
                description="The style sheet.", model={"type": "string"}, media_type="text/css"
            )
        },
    ),
)
