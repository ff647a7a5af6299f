"""Outline of the contracts and the gateway: a line a schema or operation.

``python tests/public_surface.py`` writes it into ``public_surface.txt``. What changes there is met by users:
CHANGELOG.md names it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dingrelay_tasks.kinds import schemas
from dingrelay_workers.gateway import openapi
from dingrelay_workers.gateway.server import ROUTES

FILE = Path(__file__).with_suffix(".txt")
SCOPES = {(route.path, route.method.lower()): route.scope or "any key" for route in ROUTES}
BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "pattern"),
)


def outline() -> str:
    """All of it."""
    lines = ["# jobs"]
    seen: dict[str, str] = {}
    for name, schema in schemas():
        lines.append(f"{name}: {_fields(schema)}")
        seen |= {part: _fields(each) for part, each in schema.get("$defs", {}).items()}
    lines += [f"{name}: {fields}" for name, fields in sorted(seen.items())]
    document = openapi.document(ROUTES)
    lines += ["", "# HTTP", *sorted(_operations(document)), ""]
    parts = document["components"]["schemas"]
    lines += [f"{name}: {_fields(schema)}" for name, schema in sorted(parts.items())]
    return "\n".join(lines) + "\n"


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", ())
            taken = [each["name"] for each in parameters if each["in"] == "header"]
            taken += [
                f"{each['name']}{'' if each['required'] else '?'} {_words(each['schema'])}"
                for each in parameters
                if each["in"] == "query"
            ]
            taken += _bodies(operation.get("requestBody", {}))
            given = [
                " ".join([status, *_bodies(answer)])
                for status, answer in sorted(operation["responses"].items())
            ]
            key = SCOPES[path, method] if "security" in operation else "no key"
            yield f"{path} {method.upper()}: {', '.join([key, *taken])} → {', '.join(given)}"


def _bodies(content: Mapping[str, Any]) -> list[str]:
    return [
        f"{media} {_words(each['schema'])}" for media, each in content.get("content", {}).items()
    ]


def _fields(schema: Mapping[str, Any]) -> str:
    """The fields of an object, those that may be left out with a ``?``; other schemas in words."""
    required = schema.get("required", ())
    named = [
        f"{name}{'' if name in required else '?'} {_words(each)}"
        for name, each in schema.get("properties", {}).items()
    ]
    others = schema.get("additionalProperties")
    more = ", …" if named and others is True else ""
    return ", ".join(named) + more or _words(schema)


def _words(schema: Any) -> str:
    """A schema in a few words."""
    if not isinstance(schema, dict):
        return "anything"
    if reference := schema.get("$ref"):
        return str(reference.rpartition("/")[2])
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return "|".join(dict.fromkeys(map(_words, schema[choice])))
    if "const" in schema or "enum" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return "|".join(json.dumps(value, ensure_ascii=False) for value in values)
    name = str(schema.get("format") or schema.get("type", "anything"))
    bounds = ", ".join(f"{bound} {schema[bound]}" for bound in BOUNDS if bound in schema)
    if "items" in schema:
        name = f"[{_words(schema['items'])}]"
    elif isinstance(schema.get("additionalProperties"), dict):
        name = f"{{{_words(schema['additionalProperties'])}}}"
    return f"{name}({bounds})" if bounds else name


if __name__ == "__main__":
    FILE.write_text(outline(), "utf-8")
