"""The OpenAPI 3.1 document, made of the routes and the contracts that they name.

``/openapi.json`` gives it, and ``/docs`` shows it as a page, without scripts or anything from elsewhere. It is made
when it is first asked for: that takes longer than all else of a gateway's start.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dingrelay_producers.language import CHINESE, ENGLISH, accepted, spoken, tr, translated
from dingrelay_tasks.sentence import en, joined
from dingrelay_workers.http import problems
from dingrelay_workers.http.idempotency import HEADER, REPLAYED, SPELLING
from dingrelay_workers.http.paging import Query
from dingrelay_workers.http.problems import ProblemDocument
from dingrelay_workers.http.routes import Body, HttpCall, Route, RouteAnswer, Routes
from dingrelay_workers.nouns import NOUNS

VERSION = "3.1.0"
REF = "#/components/schemas/{model}"
SECURITY = "key"

TAGS = {
    "jobs": "Enqueue jobs, and see their states and results.",
    **{noun.name: noun.about for noun in NOUNS if noun.about},
    "operation": "For load balancers, orchestrators and people who run this.",
}

DESCRIPTION = """\
Jobs for DingTalk, carried out under its limits, without losing or doubling one.

Every refusal is a problem document (RFC 9457) whose `type` is a URN; `errors` name the places that
are wrong. A request with an `Idempotency-Key` can be repeated: it gets the same answer, or the
same job as it stands now.
"""

Mode = Literal["validation", "serialization"]
Schema = dict[str, Any]

ALWAYS = frozenset({400, 500})
"""Statuses of problems that any request can meet."""
WITH_KEY = frozenset({401, 403, 429, 503})
WITH_BODY = frozenset({408, 413, 415, 422})

_TITLES: dict[int, list[str]] = {}
for _kind in problems.KINDS:
    _TITLES.setdefault(_kind.status, []).append(_kind.title)


def statuses(route: Route) -> frozenset[int]:
    """The statuses of all problems that a route can end with."""
    codes = ALWAYS | route.problems
    if route.scope is not None:
        codes |= WITH_KEY
    if route.body:
        codes |= WITH_BODY
    if route.query:
        codes |= {422}
    if route.idempotent:
        codes |= {409, 422}
    if "{" in route.path:
        codes |= {404}
    return codes


def document(routes: Sequence[Route]) -> Schema:
    """The document of these routes."""
    schemas = _Schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": VERSION,
        "info": {
            "title": "dingrelay",
            "version": version("dingrelay"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "responses": {
                f"Problem{status}": _problem(status, titles) for status, titles in _TITLES.items()
            },
            "securitySchemes": {
                SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, `drk_….…`; `dingrelay key create` makes one.",
                }
            },
        },
    }


def _operation(route: Route, schemas: "_Schemas") -> Schema:
    operation: Schema = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {
            **{
                str(status): _answer(answer, route, status, schemas)
                for status, answer in route.answers.items()
            },
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in sorted(statuses(route))
            },
        },
    }
    if needs := _needs(route):
        operation["description"] = needs
    if route.scope is not None:
        operation["security"] = [{SECURITY: []}]
    if parameters := [*_path_parameters(route), *_query_parameters(route), *_headers(route)]:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {
            "required": route.body.required,
            "content": {
                media_type: {"schema": schemas.of(model, "validation")}
                for media_type, model in _forms(route.body)
            },
        }
    return operation


def _needs(route: Route) -> str:
    scope = [en("Needs the scope `{}`.", route.scope)] if route.scope else []
    return joined("\n\n", [*paragraphs(route), *scope])


def paragraphs(route: Route) -> list[str]:
    """The description of a route, each paragraph a text of the catalogue."""
    return route.description.split("\n\n") if route.description else []


def texts(routes: Sequence[Route]) -> Iterator[str]:
    """All texts of the page that come from tags and routes."""
    yield from TAGS.values()
    for route in routes:
        yield route.summary
        yield from paragraphs(route)
        yield from (answer.description for answer in route.answers.values())


def _answer(answer: RouteAnswer, route: Route, status: int, schemas: "_Schemas") -> Schema:
    headers = dict(answer.headers)
    if route.idempotent:
        headers[REPLAYED] = (
            "`true` where an earlier request made the job, which is shown as it stands now."
            if route.finish
            else "`true` where this repeats the answer of an earlier request."
        )
    response: Schema = {"description": answer.description}
    if headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    if answer.model is not None:
        schema = schemas.of(answer.model, "serialization")
        response["content"] = {answer.media_type: {"schema": schema}}
    if links := route.links.get(status):
        response["links"] = dict(links)
    return response


def _problem(status: int, titles: Sequence[str]) -> Schema:
    response: Schema = {
        "description": "; ".join(titles) + ".",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
    }
    if status in {429, 503}:
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds after which the request may succeed.",
                "schema": {"type": "integer"},
            }
        }
    return response


def _path_parameters(route: Route) -> list[Schema]:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    default = {"type": "string", "minLength": 1, "maxLength": 255}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": dict(route.path_parameters.get(name, default)),
        }
        for name in names
    ]


def _query_parameters(route: Route) -> list[Schema]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _parameter(property_, schema),
        }
        for name, property_ in schema["properties"].items()
    ]


def _parameter(property_: Schema, schema: Schema) -> Schema:
    """A query's parameter is there or not: it is never null."""
    choices = [choice for choice in property_.get("anyOf", ()) if choice != {"type": "null"}]
    parameter = {**choices[0]} if len(choices) == 1 else dict(property_)
    if reference := parameter.pop("$ref", None):
        parameter |= schema["$defs"][reference.rpartition("/")[2]]
    for name in ("title", "default"):
        parameter.pop(name, None)
    return parameter


def _headers(route: Route) -> list[Schema]:
    if not route.idempotent:
        return []
    return [
        {
            "name": HEADER,
            "in": "header",
            "required": False,
            "description": "The same request again with the same key makes no second job: it gets the first one's job as it stands now."
            if route.finish
            else "The same request again with the same key gets the same answer.",
            "schema": {"type": "string", "pattern": f'^({SPELLING}|"{SPELLING}")$'},
        }
    ]


class _Schemas:
    """The schemas of all models that the routes name, each once."""

    def __init__(self, routes: Sequence[Route]) -> None:
        models = list(dict.fromkeys(_models(routes)))
        # A model's name may stand for two: as it is taken, and as it is given.
        self._references, schema = models_json_schema(models, ref_template=REF)
        self.definitions: Schema = schema.get("$defs", {})
        self.definitions["Problem"] = self.definitions.pop("ProblemDocument")
        for name, definition in self.definitions.items():
            # Generators of clients name a class for its title: two of one title are one class.
            definition["title"] = name.replace("-", "")

    def of(self, model: type[BaseModel] | Mapping[str, Any], mode: Mode) -> Schema:
        """The schema of a model, or the one given."""
        if isinstance(model, type):
            return dict(self._references[model, mode])
        return dict(model)


def _models(routes: Sequence[Route]) -> Iterator[tuple[type[BaseModel], Mode]]:
    """Every model that is taken or given."""
    yield ProblemDocument, "serialization"
    for route in routes:
        for _, model in _forms(route.body) if route.body else ():
            if isinstance(model, type):
                yield model, "validation"
        for answer in route.answers.values():
            if isinstance(answer.model, type):
                yield answer.model, "serialization"


def _forms(body: Body) -> list[tuple[str, type[BaseModel] | Mapping[str, Any]]]:
    """Media type and contract of each form that a body may have."""
    return [*((media_type, body.model) for media_type in body.media_types), *body.others.items()]


DOCUMENT: web.AppKey[Callable[[], Schema]] = web.AppKey("openapi")


def document_once(routes: Sequence[Route]) -> Callable[[], Schema]:
    """Makes the document of these routes when it is first called."""
    return cache(partial(document, routes))


async def _document(call: HttpCall) -> Schema:
    """The document of the gateway's routes; other requests go on while it is made."""
    return await asyncio.to_thread(call.request.app[DOCUMENT])


STYLE = """\
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.6 system-ui, "PingFang SC", "Microsoft YaHei", sans-serif; max-width: 60rem; margin: auto; padding: 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.9em; }
pre, table { overflow-x: auto; display: block; }
details { border: 1px solid var(--line); border-radius: 6px; margin: 0.6rem 0; padding: 0.5rem 0.8rem; }
summary { cursor: pointer; }
td { vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); }
:target { outline: 2px solid; }
"""
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
EXAMPLE = """\
curl -sS http://127.0.0.1:8610/v1/messages \\
  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
  -H "Idempotency-Key: order-4711" \\
  -d '{"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}'
"""
PAGE = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    undefined=StrictUndefined,
)


def _coded(text: str) -> Markup:
    """A text whose backquotes mark code."""
    # `re.sub` of a `Markup` would escape the tags as well.
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it is escaped


def _said(text: str) -> Markup:
    return _coded(translated(text))


PAGE.filters |= {"coded": _coded, "said": _said}
_SHOWN: dict[str, Any] = {
    "_": tr,
    "problems": problems,
    "example": EXAMPLE,
    "style": STYLE,
    "json": partial(json.dumps, ensure_ascii=False, indent=2),
}
PAGE.globals.update(_SHOWN)


class Language(Query):
    """Language of the page."""

    lang: Literal["en", "zh"] | None = None
    """The browser's preference, if not given."""


ROUTES = Routes(tag="operation")


@ROUTES(
    "GET /openapi.json",
    {200: RouteAnswer(description="OpenAPI 3.1.", model={"type": "object"})},
)
async def get_open_api(call: HttpCall) -> web.StreamResponse:
    """The OpenAPI document."""
    return web.json_response(await _document(call))


@ROUTES(
    "GET /docs",
    {200: RouteAnswer(description="The page.", model={"type": "string"}, media_type="text/html")},
    query=Language,
)
async def show_docs(call: HttpCall) -> web.StreamResponse:
    """The document as a page."""
    preferred = accepted(call.request.headers.get("Accept-Language"))
    query: Language = call.query
    language = {"en": ENGLISH, "zh": CHINESE, None: preferred}[query.lang]
    described = await _document(call)
    with spoken(language):
        page = PAGE.get_template("docs.html").render(document=described, language=language)
    return web.Response(
        text=page,
        content_type="text/html",
        headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"},
    )
