"""``/openapi.json``, and ``/docs``: the same as a page, without scripts or anything from elsewhere."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.language import CHINESE, ENGLISH, accepted, translated
from dingrelay_workers.http import problems
from dingrelay_workers.http.routes import HttpCall, RouteAnswer, Routes

DOCUMENT: web.AppKey[Mapping[str, Any]] = web.AppKey("openapi", Mapping[str, Any])

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
TITLE, SCHEMAS, PROBLEMS = "dingrelay over HTTP", "The schemas", "The problems"
START = "Present an API key in each request. Its owner got it from `dingrelay key create`."
REFUSAL = "A refusal is a problem document (RFC 9457). Its `type` is one of these:"
TEXTS = (TITLE, SCHEMAS, PROBLEMS, START, REFUSAL)
"""What the page says; the rest comes from the document."""


class Language(BaseModel, extra="forbid"):
    """In which language to read."""

    lang: Literal["en", "zh"] | None = None
    """As the browser prefers, if not given."""


ROUTES = Routes(tag="operation")


@ROUTES(
    "GET /openapi.json",
    {200: RouteAnswer(description="OpenAPI 3.1.", model={"type": "object"})},
)
async def get_open_api(call: HttpCall) -> web.StreamResponse:
    """The OpenAPI document."""
    return web.json_response(call.request.app[DOCUMENT])


@ROUTES(
    "GET /docs",
    {200: RouteAnswer(description="The page.", model={"type": "string"}, media_type="text/html")},
    query=Language,
)
async def show_docs(call: HttpCall) -> web.StreamResponse:
    """The document as a page."""
    preferred = accepted(call.request.headers.get("Accept-Language", ""))
    asked: Language = call.query
    language = {"en": ENGLISH, "zh": CHINESE, None: preferred}[asked.lang]
    return web.Response(
        text="\n".join(_page(call.request.app[DOCUMENT], language)),
        content_type="text/html",
        headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"},
    )


def _page(document: Mapping[str, Any], language: str) -> Iterator[str]:
    def say(text: str) -> str:
        """A text in the language; backquotes mark code."""
        parts = escape(translated(text, language)).split("`")
        return "".join(
            f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
        )

    yield f'<!doctype html><html lang="{language.replace("_", "-")}"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{say(TITLE)}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>{say(TITLE)} {escape(document['info']['version'])}</h1>"
    yield '<p><a href="/docs?lang=en">English</a> · <a href="/docs?lang=zh">中文</a> · '
    yield f'<a href="/openapi.json">OpenAPI</a></p><p>{say(START)}</p><pre>{escape(EXAMPLE)}</pre>'
    for tag in document["tags"]:
        yield f'<h2 id="{tag["name"]}">{say(tag["description"])}</h2>'
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield f'<details id="{operation["operationId"]}"><summary><b>{method.upper()}</b> '
                    yield f"<code>{escape(path)}</code> {say(operation['summary'])}</summary>"
                    yield f"<p>{say(operation.get('description', ''))}</p><table>"
                    for row in _rows(operation):
                        yield "<tr>" + "".join(f"<td>{each}</td>" for each in row) + "</tr>"
                    yield "</table></details>"
    yield f'<h2 id="problems">{say(PROBLEMS)}</h2><p>{say(REFUSAL)}</p><table>'
    for kind in problems.KINDS:
        yield f"<tr><td><code>{problems.URN}{kind.name}</code></td><td>{kind.status}</td>"
        yield f"<td>{say(kind.title)}</td></tr>"
    yield f'</table><h2 id="schemas">{say(SCHEMAS)}</h2>'
    for name, schema in sorted(document["components"]["schemas"].items()):
        text = escape(json.dumps(schema, ensure_ascii=False, indent=2))
        yield f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        yield f"<pre>{text}</pre></details>"
    yield "</body></html>"


def _rows(operation: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What an operation takes and answers: place or status, name, and type."""
    for each in operation.get("parameters", ()):
        yield each["in"], f"<code>{escape(each['name'])}</code>", _type(each["schema"])
    for media_type, each in operation.get("requestBody", {}).get("content", {}).items():
        yield "body", f"<code>{escape(media_type)}</code>", _type(each["schema"])
    refusals: list[str] = []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            refusals.append(status)
        else:
            types = ", ".join(_type(each["schema"]) for each in answer.get("content", {}).values())
            yield status, escape(answer["description"]), types
    yield ", ".join(refusals), '<a href="#problems">problem</a>', ""


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words; a named one is a link."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#schema-{name}"><code>{name}</code></a>'
    if choices := schema.get("anyOf"):
        return " | ".join(_type(choice) for choice in choices)
    if values := schema.get("enum"):
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in values)
    return escape(str(schema.get("format", schema.get("type", ""))))
