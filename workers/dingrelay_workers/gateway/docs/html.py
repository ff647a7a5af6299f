"""The OpenAPI document as a page, without scripts and without anything from elsewhere."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from dingrelay_workers.gateway.docs.text import CHINESE, LABELS, TAGS, Language
from dingrelay_workers.http import problems

STYLE = "/docs/style.css"

_EXAMPLE = """\
curl -sS http://127.0.0.1:8610/v1/messages \\
  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
  -H "Idempotency-Key: order-4711" \\
  -d '{"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}'
"""


def page(document: Mapping[str, Any], language: Language) -> str:
    """The whole page."""
    return "\n".join(_Page(document, language).lines())


class _Page:
    def __init__(self, document: Mapping[str, Any], language: Language) -> None:
        self._document = document
        self._language: Language = language
        self._labels = LABELS[language]

    def lines(self) -> Iterator[str]:
        other = "en" if self._language == "zh" else "zh"
        code = "zh-CN" if self._language == "zh" else "en"
        title = escape(self._labels["title"])
        yield f'<!doctype html><html lang="{code}"><head><meta charset="utf-8">'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield f'<title>{title}</title><link rel="stylesheet" href="{STYLE}"></head><body>'
        yield f"<header><h1>{title} {escape(self._document['info']['version'])}</h1>"
        yield f'<p><a href="/docs?lang={other}">{escape(self._labels["other"])}</a> · '
        yield f'<a href="/openapi.json">{escape(self._labels["document"])}</a></p>'
        yield f"<p>{_code(self._labels['start'])}</p><pre>{escape(_EXAMPLE)}</pre></header><main>"
        for tag in self._document["tags"]:
            yield from self._group(tag)
        yield from self._problems()
        yield f'<h2 id="schemas">{escape(self._labels["schemas"])}</h2>'
        for name, schema in sorted(self._document["components"]["schemas"].items()):
            text = escape(json.dumps(schema, ensure_ascii=False, indent=2))
            yield f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code>'
            yield f"</summary><pre>{text}</pre></details>"
        yield "</main></body></html>"

    def _group(self, tag: Mapping[str, str]) -> Iterator[str]:
        operations = [
            (method, path, operation)
            for path, methods in self._document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        if not operations:
            return
        zh = self._language == "zh"
        title = TAGS.get(tag["name"], tag["description"]) if zh else tag["description"]
        yield f'<h2 id="{escape(tag["name"])}">{escape(title)}</h2>'
        for method, path, operation in operations:
            yield from self._operation(method, path, operation)

    def _operation(self, method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
        name = operation["operationId"]
        summary = operation["summary"]
        if self._language == "zh":
            summary = CHINESE.get(name, summary)
        yield f'<details id="{escape(name)}"><summary><span class="method {method}">'
        yield f"{method.upper()}</span><code>{escape(path)}</code>"
        yield f'<span class="what">{escape(summary)}</span></summary>'
        if description := operation.get("description"):
            yield f"<p>{_code(description)}</p>"
        elif "security" not in operation:
            yield f"<p>{escape(self._labels['no key'])}</p>"
        if parameters := operation.get("parameters"):
            rows = [
                (f"<code>{escape(each['name'])}</code>", escape(each["in"]), _type(each["schema"]))
                for each in parameters
            ]
            yield from self._table("parameters", ("name", "place", "type"), rows)
        if body := operation.get("requestBody"):
            bodies = [
                (f"<code>{escape(media)}</code>", _type(each["schema"]))
                for media, each in body["content"].items()
            ]
            yield from self._table("body", ("type", "content"), bodies)
        answers = [self._answer(status, each) for status, each in operation["responses"].items()]
        yield from self._table("answers", ("status", "what", "content"), answers)
        yield "</details>"

    def _answer(self, status: str, answer: Mapping[str, Any]) -> tuple[str, ...]:
        if reference := answer.get("$ref"):
            answer = self._document["components"]["responses"][reference.rpartition("/")[2]]
        content = answer.get("content", {})
        types = ", ".join(_type(each["schema"]) for each in content.values())
        return escape(status), escape(answer["description"]), types

    def _table(
        self, title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]
    ) -> Iterator[str]:
        heads = "".join(f"<th>{escape(self._labels[name])}</th>" for name in columns)
        yield f"<h4>{escape(self._labels[title])}</h4><table><tr>{heads}</tr>"
        for row in rows:
            yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        yield "</table>"

    def _problems(self) -> Iterator[str]:
        yield f'<h2 id="problems">{escape(self._labels["problems"])}</h2>'
        yield f"<p>{_code(self._labels['problem intro'])}</p>"
        rows = [
            (f"<code>{problems.URN}{kind.name}</code>", str(kind.status), escape(kind.title))
            for kind in problems.KINDS
        ]
        yield from self._table("problems", ("type", "status", "what"), rows)


def _code(text: str) -> str:
    """Text in which backquotes mark code."""
    parts = escape(text).split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
    )


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words; a named one is a link."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#schema-{name}"><code>{name}</code></a>'
    if choices := schema.get("anyOf"):
        return " | ".join(_type(choice) for choice in choices)
    if values := schema.get("enum"):
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in values)
    bounds = [
        f"{sign} {schema[name]}"
        for name, sign in (("minimum", "≥"), ("maximum", "≤"), ("maxLength", "length ≤"))
        if name in schema
    ]
    words = [schema.get("format", schema.get("type", "")), *bounds]
    return escape(" ".join(str(word) for word in words))
